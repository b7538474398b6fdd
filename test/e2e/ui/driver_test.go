// Package ui drives the web page in headless Chromium, through chromedriver, against a whole server in this process.
package ui

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// browser is one WebDriver session (https://www.w3.org/TR/webdriver2/).
type browser struct {
	t    *testing.T
	base string // of the session
}

// program finds one of the names; without any the test is skipped, and in CI it fails.
func program(t *testing.T, names ...string) string {
	t.Helper()
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			return p
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("none of %v is installed: the CI script has to install the packages chromium and chromium-driver", names)
	}
	t.Skipf("SKIPPED: none of %v is installed (packages chromium and chromium-driver)", names)
	return ""
}

func startBrowser(t *testing.T) *browser {
	t.Helper()
	chrome := program(t, "chromium", "chromium-browser", "google-chrome")
	driver := exec.Command(program(t, "chromedriver"), "--port=0")
	out, err := driver.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := driver.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = driver.Process.Kill(); _ = driver.Wait() })
	port := ""
	for s := bufio.NewScanner(out); port == "" && s.Scan(); {
		if m := regexp.MustCompile(`started successfully on port (\d+)`).FindStringSubmatch(s.Text()); m != nil {
			port = m[1]
		}
	}
	if port == "" {
		t.Fatal("chromedriver did not start")
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process
	b := &browser{t: t, base: "http://127.0.0.1:" + port + "/session"}
	var session struct{ SessionID string }
	b.call("POST", "", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"acceptInsecureCerts": true,
		"goog:loggingPrefs":   map[string]string{"browser": "ALL"},
		"goog:chromeOptions": map[string]any{"binary": chrome, "args": []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1400,900", "--user-data-dir=" + t.TempDir(),
		}},
	}}}, &session)
	b.base += "/" + session.SessionID
	t.Cleanup(func() { b.call("DELETE", "", nil, nil) })
	return b
}

// run makes a subtest that b's failures belong to.
func (b *browser) run(name string, f func(t *testing.T)) {
	parent := b.t
	defer func() { b.t = parent }()
	parent.Run(name, func(t *testing.T) { b.t = t; f(t) })
}

func (b *browser) call(method, path string, body, into any) {
	b.t.Helper()
	if err := b.try(method, path, body, into); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) try(method, path string, body, into any) error {
	var r io.Reader
	if body != nil {
		enc, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(enc)
	}
	req, err := http.NewRequest(method, b.base+path, r)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct{ Value json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if resp.StatusCode != 200 {
		return fmt.Errorf("%s %s: %.600s", method, path, answer.Value)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, into)
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.call("POST", "/url", map[string]string{"url": url}, nil)
}

// js runs the body of a function and gives its result.
func (b *browser) js(body string) any {
	b.t.Helper()
	var v any
	b.call("POST", "/execute/sync", map[string]any{"script": body, "args": []any{}}, &v)
	return v
}

// wait asks again until the condition is true.
func (b *browser) wait(what, condition string) {
	b.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		var ok bool
		if err := b.try("POST", "/execute/sync", map[string]any{"script": "return Boolean(" + condition + ")", "args": []any{}}, &ok); err == nil && ok {
			return
		}
		time.Sleep(30 * time.Millisecond) //nolint:forbidigo // another process's state: there is nothing to wait on
	}
	b.screenshot("failed")
	b.t.Fatalf("waited in vain: %s; the page shows: %.2000v", what, b.js("return document.body.innerText"))
}

// keys types into the element that has the focus.
func (b *browser) keys(text string) {
	b.t.Helper()
	var actions []map[string]string
	for _, r := range text {
		actions = append(actions, map[string]string{"type": "keyDown", "value": string(r)}, map[string]string{"type": "keyUp", "value": string(r)})
	}
	b.call("POST", "/actions", map[string]any{"actions": []any{map[string]any{"type": "key", "id": "k", "actions": actions}}}, nil)
}

const (
	enterKey  = "\ue007"
	escapeKey = "\ue00c"
	downKey   = "\ue015"
	tabKey    = "\ue004"
)

// screenshot is kept in the directory that WHODUNIT_SCREENSHOTS names, if it does.
func (b *browser) screenshot(name string) {
	dir := os.Getenv("WHODUNIT_SCREENSHOTS")
	if dir == "" {
		return
	}
	var enc string
	b.call("GET", "/screenshot", nil, &enc)
	png, err := base64.StdEncoding.DecodeString(enc)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// look checks that nothing is wider than its place, on a narrow screen and a wide one, and takes screenshots, dark ones too, of the
// element with this id.
func (b *browser) look(name, id string) {
	b.t.Helper()
	scheme := func(value string) {
		b.call("POST", "/goog/cdp/execute", map[string]any{"cmd": "Emulation.setEmulatedMedia",
			"params": map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": value}}}}, nil)
	}
	for _, width := range []int{400, 1280} {
		b.call("POST", "/goog/cdp/execute", map[string]any{"cmd": "Emulation.setDeviceMetricsOverride",
			"params": map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false}}, nil)
		b.js(`document.getElementById('` + id + `').scrollIntoView({ block: 'nearest' })`)
		for _, value := range []string{"dark", "light"} {
			scheme(value)
			b.screenshot(fmt.Sprintf("%s-%d-%s", name, width, value))
		}
		wide := b.js(`return [document.documentElement, ...document.querySelectorAll('header, #search, #alerts, #alerts *, #columns')]
			.filter((e) => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).overflowX !== 'hidden' && getComputedStyle(e).display !== 'inline')
			.map((e) => e.tagName + '.' + e.className + '#' + e.id + ' ' + e.scrollWidth + '>' + e.clientWidth).join('\n')`)
		if wide != "" {
			b.t.Errorf("%s at %d px: wider than their place: %v", name, width, wide)
		}
	}
}

// console gives what the browser had to say: violated policies and errors of scripts are there.
func (b *browser) console() []string {
	b.t.Helper()
	var log []struct{ Level, Message string }
	b.call("POST", "/se/log", map[string]string{"type": "browser"}, &log)
	var out []string
	for _, l := range log {
		out = append(out, l.Level+" "+l.Message)
	}
	return out
}
