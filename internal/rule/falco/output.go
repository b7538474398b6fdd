package falco

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"whodunit/internal/audit"
	"whodunit/internal/rule"
)

// Bounds on messages. A list's text is cut where Falco cuts it.
const (
	maxListBytes    = 1023
	maxValueBytes   = 4096
	maxMessageBytes = 16384
	maxFieldBytes   = 65536 // of one value in an alert's output_fields
)

// missing is what Falco prints for what an event lacks.
const missing = "<NA>"

// output is a rule's message: text with fields in it. It implements rule.Renderer.
type output struct{ parts []outputPart }

// outputPart is literal text, or a field.
type outputPart struct {
	text  string
	field *operand
	width int // 0: as long as it is
}

// output reads a template: %field, %field[argument] or %function(field), with a width between % and the name if wanted.
func (c *compiler) output(s string) (*output, *syntaxError) {
	out := &output{}
	base := 0
	if strings.HasPrefix(s, "*") { // "print although values are missing", which is always so
		s, base = s[1:], 1
	}
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			break
		}
		if i > 0 {
			out.parts = append(out.parts, outputPart{text: s[:i]})
		}
		width, n := 0, i+1
		for n < len(s) && isDigit(s[n]) {
			width = min(width*10+int(s[n]-'0'), maxValueBytes)
			n++
		}
		t, end, err := outputTerm(s[n:])
		if err != nil {
			err.at += base + n
			return nil, err
		}
		o, err := c.operand(t)
		if err != nil {
			err.at = base + n
			return nil, err
		}
		out.parts = append(out.parts, outputPart{field: o, width: width})
		s, base = s[n+end:], base+n+end
	}
	if s != "" {
		out.parts = append(out.parts, outputPart{text: s})
	}
	return out, nil
}

// Template implements rule.Templater. Widths are left out.
func (o *output) Template() string {
	var b strings.Builder
	for _, p := range o.parts {
		switch {
		case p.field == nil:
			b.WriteString(rule.EscapeTemplate(p.text))
		case p.field.path != "":
			b.WriteString("{" + p.field.path + "|" + missing + "}")
		default:
			b.WriteString("{" + p.field.field.Name + "|" + missing + "}")
		}
	}
	return b.String()
}

// outputTerm reads what follows a % and says where it ends. As in Falco the longest known field counts that the text begins with.
func outputTerm(s string) (t *term, end int, err *syntaxError) {
	p := &parser{s: s}
	defer p.catch(&err)
	for _, f := range functions {
		if strings.HasPrefix(s, f+"(") {
			t = p.term()
			return t, p.i, nil
		}
	}
	for i := range len(s) + 1 {
		if i == len(s) || !isLetter(s[i]) && !isDigit(s[i]) && s[i] != '_' && s[i] != '.' {
			s = s[:i]
			break
		}
	}
	for n := len(s); n > 0; n-- {
		if fields[s[:n]] == nil {
			continue
		}
		t, p.i = &term{kind: fieldTerm, name: s[:n]}, n
		if strings.HasPrefix(p.s[n:], "[") {
			// Anything may stand in the brackets here.
			end := strings.IndexByte(p.s[n:], ']')
			if end < 0 {
				p.fail(n, "] is expected")
			}
			t.hasArg, t.arg = true, strings.Trim(p.s[n+1:n+end], `"'`)
			p.i = n + end + 1
		}
		return t, p.i, nil
	}
	if s == "" {
		return nil, 0, &syntaxError{text: "a field is expected behind %"}
	}
	return nil, 0, &syntaxError{text: fmt.Sprintf("unknown field %.100q", s), near: rule.Nearest(s, fieldNames)}
}

// Render implements rule.Renderer.
func (o *output) Render(ev *audit.Event) string {
	var b strings.Builder
	for _, p := range o.parts {
		if p.field == nil {
			b.WriteString(p.text)
			continue
		}
		v := p.field.render(ev)
		if p.width > 0 {
			v = fit(v, p.width)
		}
		if b.WriteString(v); b.Len() > maxMessageBytes {
			break
		}
	}
	return rule.Shorten(b.String(), maxMessageBytes)
}

// render is an operand's values as Falco prints them.
func (o *operand) render(ev *audit.Event) string {
	if !o.list {
		v := o.collect(ev)
		if len(v) == 0 {
			return missing
		}
		return rule.Shorten(v[0], maxValueBytes)
	}
	var b strings.Builder
	b.WriteByte('(')
	n := 0
	o.get(ev, func(s string) bool {
		if n++; n > 1 {
			b.WriteByte(',')
		}
		b.WriteString(rule.Shorten(s, maxListBytes))
		return b.Len() <= maxListBytes
	})
	if n == 0 {
		return missing
	}
	b.WriteByte(')')
	return rule.Shorten(b.String(), maxListBytes)
}

// fit cuts or fills s to n bytes.
func fit(s string, n int) string {
	if len(s) < n {
		return s + strings.Repeat(" ", n-len(s))
	}
	for n > 0 && n < len(s) && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
