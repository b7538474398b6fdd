package config

import (
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// check reports everything that is wrong with c.
func (c Config) check(report func(path, message string)) {
	walk(reflect.ValueOf(&c).Elem(), "", func(path string, f reflect.StructField, v reflect.Value) {
		for _, problem := range []string{checkWords(f, v), checkRange(f, v), checkForm(f, v)} {
			if problem != "" {
				report(path, problem)
				return
			}
		}
	})
	if c.DataDir == "" {
		report("data_dir", "a directory is wanted")
	}
	checkTLS("server", c.Server.Listen, c.Server.TLS, report)
	if c.Webhook.Enabled {
		t := c.Webhook.TLS
		checkTLS("webhook", c.Webhook.Listen, TLS{t.Mode, t.CertFile, t.KeyFile}, report)
		if t.ClientCAFile != "" && t.Mode == "off" {
			report("webhook.tls.client_ca_file", "client certificates need TLS: set webhook.tls.mode")
		}
		if c.Webhook.MaxInFlight < c.Webhook.MaxBody {
			report("webhook.max_in_flight", fmt.Sprintf("%v is less than webhook.max_body, %v: the largest body would never be taken",
				c.Webhook.MaxInFlight, c.Webhook.MaxBody))
		}
		if c.Webhook.Listen == c.Server.Listen && !strings.HasSuffix(c.Server.Listen, ":0") {
			report("webhook.listen", "the same address as server.listen")
		}
	}
	if j := c.Journal; j.MaxSize > 0 && j.Retention.Size > j.MaxSize {
		report("journal.retention.size", fmt.Sprintf("%v is more than journal.max_size, %v: the journal would fill up before anything is deleted",
			j.Retention.Size, j.MaxSize))
	}
	checkLists(c, report)
}

func checkLists(c Config, report func(path, message string)) {
	for i, f := range c.Files {
		p := fmt.Sprintf("files[%d].paths", i)
		if len(f.Paths) == 0 {
			report(p, "at least one file name is wanted")
		}
		for j, g := range f.Paths {
			if _, err := filepath.Match(g, ""); err != nil || g == "" {
				report(fmt.Sprintf("%s[%d]", p, j), fmt.Sprintf("%.60q is no file name or pattern", g))
			}
		}
	}
	for i, dir := range c.Rules.Paths {
		if dir == "" {
			report(fmt.Sprintf("rules.paths[%d]", i), "a file or directory is wanted")
		}
	}
	checkAlerts(c.Alerts, report)
	checkActions(c.Actions, report)
}

func checkTLS(section, listen string, t TLS, report func(path, message string)) {
	for _, f := range [...]struct{ name, value string }{{"cert_file", t.CertFile}, {"key_file", t.KeyFile}} {
		switch path := section + ".tls." + f.name; {
		case t.Mode == "files" && f.value == "":
			report(path, "wanted with mode files")
		case t.Mode != "files" && f.value != "":
			report(path, fmt.Sprintf("not used with mode %s: set %s.tls.mode to files", t.Mode, section))
		}
	}
	if t.Mode != "off" {
		return
	}
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "localhost" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
			report(section+".tls.mode", fmt.Sprintf("off is allowed on a loopback address only, and %s is none: passwords and tokens would "+
				"cross the network readable", listen))
		}
	}
}

func checkWords(f reflect.StructField, v reflect.Value) string {
	words := strings.Fields(f.Tag.Get("oneof"))
	if len(words) == 0 {
		return ""
	}
	for _, w := range words {
		if v.String() == w {
			return ""
		}
	}
	return fmt.Sprintf("%.60q is not allowed: one of %s is wanted", v.String(), strings.Join(words, ", "))
}

func checkRange(f reflect.StructField, v reflect.Value) string {
	low, high := f.Tag.Get("min"), f.Tag.Get("max")
	if low == "" || high == "" {
		return ""
	}
	var n, lo, hi int64
	var shown string
	switch x := v.Interface().(type) {
	case Duration:
		a, _ := ParseDuration(low)
		b, _ := ParseDuration(high)
		n, lo, hi, shown = int64(x), int64(a), int64(b), x.String()
	case Size:
		a, _ := ParseSize(low)
		b, _ := ParseSize(high)
		n, lo, hi, shown = int64(x), int64(a), int64(b), x.String()
	case int:
		n, shown = int64(x), strconv.Itoa(x)
		lo, _ = strconv.ParseInt(low, 10, 64)
		hi, _ = strconv.ParseInt(high, 10, 64)
	}
	if n < lo || n > hi {
		return fmt.Sprintf("%s is out of range: %s to %s is wanted", shown, low, high)
	}
	return ""
}

func checkForm(f reflect.StructField, v reflect.Value) string {
	switch f.Tag.Get("check") {
	case "address":
		_, port, err := net.SplitHostPort(v.String())
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n > 65535 {
			return fmt.Sprintf("%.60q is no address: host:port is wanted, such as 127.0.0.1:8443", v.String())
		}
	case "url":
		if s := v.String(); s != "" && !isURL(s) {
			return wantURL
		}
	case "cluster":
		// The name stands in URLs, file names and metrics.
		name := v.String()
		if name == "" || len(name) > 253 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != "" {
			return fmt.Sprintf("%.60q is no cluster name: letters, digits and - . _ are wanted", name)
		}
	}
	return ""
}
