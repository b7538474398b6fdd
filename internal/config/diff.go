package config

import (
	"fmt"
	"net/url"
	"reflect"
	"strings"
)

// Change is one field that two configurations differ in. Old and New are fit to be logged: secrets are hidden.
type Change struct {
	Path     string
	Old, New string
	Restart  bool // a running process cannot take it over
}

// Diff lists the changes from one configuration to another, in the order of the reference. A list of groups is one field.
func Diff(old, now Config) []Change {
	return diff(reflect.ValueOf(old), reflect.ValueOf(now), "", false)
}

func diff(a, b reflect.Value, path string, live bool) []Change {
	var out []Change
	for i := range a.NumField() {
		f := a.Type().Field(i)
		p, live := join(path, f.Tag.Get("yaml")), live || f.Tag.Get("reload") == "live"
		x, y := a.Field(i), b.Field(i)
		switch {
		case x.Kind() == reflect.Struct:
			out = append(out, diff(x, y, p, live)...)
		case !reflect.DeepEqual(x.Interface(), y.Interface()) && (x.Kind() != reflect.Slice || x.Len()+y.Len() > 0):
			out = append(out, Change{Path: p, Old: show(f, x), New: show(f, y), Restart: !live})
		}
	}
	return out
}

// String is the configuration as YAML, with secrets hidden. It is fit for logs and for a bug report.
func (c Config) String() string {
	var b strings.Builder
	write(&b, reflect.ValueOf(c), "")
	return b.String()
}

func write(b *strings.Builder, v reflect.Value, indent string) {
	for i := range v.NumField() {
		f, fv := v.Type().Field(i), v.Field(i)
		name := indent + f.Tag.Get("yaml") + ":"
		switch {
		case fv.Kind() == reflect.Struct:
			b.WriteString(name + "\n")
			write(b, fv, indent+"  ")
		case fv.Kind() == reflect.Slice && fv.Type().Elem().Kind() == reflect.Struct && fv.Len() > 0:
			b.WriteString(name + "\n")
			for j := range fv.Len() {
				var el strings.Builder
				write(&el, fv.Index(j), indent+"    ")
				b.WriteString(indent + "  - " + strings.TrimPrefix(el.String(), indent+"    "))
			}
		default:
			b.WriteString(name + " " + show(f, fv) + "\n")
		}
	}
}

func show(f reflect.StructField, v reflect.Value) string {
	secret := f.Tag.Get("secret") == "url"
	switch x := v.Interface().(type) {
	case string:
		if secret && x != "" {
			x = hideURL(x)
		}
		return quote(x)
	case URLs:
		return show(f, reflect.ValueOf([]string(x)))
	case []string:
		q := make([]string, len(x))
		for i, s := range x {
			if secret {
				s = hideURL(s)
			}
			q[i] = quote(s)
		}
		return "[" + strings.Join(q, ", ") + "]"
	}
	if v.Kind() == reflect.Slice {
		el := make([]string, v.Len())
		for i := range el {
			var b strings.Builder
			write(&b, v.Index(i), "")
			el[i] = "{" + strings.ReplaceAll(strings.TrimSpace(b.String()), "\n", ", ") + "}"
		}
		return "[" + strings.Join(el, ", ") + "]"
	}
	return fmt.Sprint(v.Interface())
}

// quote writes text that YAML reads back as the same text.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" &&
		strings.ContainsAny(s[:1], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/") && !reserved(s) {
		return s
	}
	return fmt.Sprintf("%q", s)
}

func reserved(s string) bool {
	switch strings.ToLower(s) {
	case "true", "false", "null", "yes", "no", "on", "off", "y", "n":
		return s != "off" // a word of tls.mode, and text in YAML 1.2
	}
	return false
}

// hideURL keeps scheme and host: user, path and query of a webhook's URL are often its only secret.
func hideURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return "(hidden)"
	}
	return u.Scheme + "://" + u.Host + "/(hidden)"
}
