package sigma

import (
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

const (
	maxMessage = 4096 // bytes
	maxValue   = 256  // of one field
)

// message is the title, for an audit event who did what, and the fields that the rule names. It implements rule.Renderer.
type message struct {
	title  string
	who    bool
	fields []*target
}

func (l *loader) message(title string, fields []string) *message {
	m := &message{title: title, who: !l.c.o.Generic}
	for _, f := range fields[:min(len(fields), 50)] {
		m.fields = append(m.fields, l.c.lookup(f))
	}
	return m
}

// Render implements rule.Renderer.
func (m *message) Render(ev *audit.Event) string {
	var b strings.Builder
	b.WriteString(m.title)
	if m.who {
		user := ev.User.Username
		if user == "" {
			user = "nobody"
		}
		b.WriteString(": " + rule.Shorten(user, maxValue) + " " + rule.Shorten(ev.Verb, maxValue) + " " + rule.Shorten(ev.RequestURI, maxValue))
	}
	sep := ": "
	if m.who {
		sep = " ("
	}
	open := sep
	for _, f := range m.fields {
		first := true
		start := b.Len()
		f.values(ev, func(v string) bool {
			if first {
				b.WriteString(sep + f.name + "=")
				first, sep = false, ", "
			} else {
				b.WriteString(", ")
			}
			b.WriteString(rule.Shorten(v, maxValue))
			return b.Len()-start < 2*maxValue
		})
	}
	if m.who && sep != open {
		b.WriteByte(')')
	}
	return rule.Shorten(b.String(), maxMessage)
}
