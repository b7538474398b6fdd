package rule

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

const (
	maxValueBytes   = 256  // of one placeholder's text in a message
	maxMessageBytes = 4096 // of a whole message
	maxTemplate     = 64 << 10
)

// Message is a template: text with `{path}` or `{path|text for a missing value}`; `{{` and `}}` are braces. `{? in {path}}` is a part
// that is left out as a whole when one of its paths has no value; in it a } ends the part, and it holds no other part. A path is
// resolved by match.Values; several values are joined by a comma, none gives "-". Immutable.
type Message struct {
	source string
	parts  []part
}

var _ FactsRenderer = (*Message)(nil)

type part struct {
	text   string // literal text, or the fallback of a path
	path   string
	needed bool // without a value, the optional part that it is in is left out
	more   *more
}

// more is what few parts have.
type more struct {
	values Values // in place of the event's values at path
	option []part // an optional part, in place of all else
}

// Templater is a Renderer of another format that can be said as a template of a Message.
type Templater interface {
	Renderer
	// Template gives the template. Placeholders may be names of computed fields.
	Template() string
}

// EscapeTemplate is the template of literal text.
func EscapeTemplate(s string) string { return strings.NewReplacer("{", "{{", "}", "}}").Replace(s) }

// Values are the values of a placeholder that no path names. They share memory with ev. Safe for concurrent use.
type Values func(ev *audit.Event) iter.Seq[string]

// CorrelationPaths are the placeholders that Facts fill: a number as short as it can be, a count, and the whole seconds from the first
// to the last event. Without Facts they have no value.
var CorrelationPaths = [...]string{"correlation.number", "correlation.events", "correlation.seconds"}

// ParseMessage reads a template. known says whether a path may be named; its error is returned with the path.
func ParseMessage(s string, known func(path string) error) (*Message, error) {
	return ParseTemplate(s, func(path string) (Values, error) { return nil, known(path) })
}

// ParseTemplate is ParseMessage for placeholders that are not all paths: lookup gives the values of one, nil for those of the path.
func ParseTemplate(s string, lookup func(name string) (Values, error)) (*Message, error) {
	if len(s) > maxTemplate {
		return nil, fmt.Errorf("longer than %d bytes", maxTemplate)
	}
	p := templateParser{s: s, lookup: lookup}
	parts, err := p.parts(false)
	if err != nil {
		return nil, err
	}
	return &Message{source: s, parts: parts}, nil
}

type templateParser struct {
	s      string
	i      int
	lookup func(string) (Values, error)
}

// parts reads up to the end, or in an optional part up to the brace that ends it.
func (p *templateParser) parts(optional bool) ([]part, error) {
	var out []part
	var lit strings.Builder
	flush := func() {
		if lit.Len() > 0 {
			out = append(out, part{text: lit.String()})
			lit.Reset()
		}
	}
	start := p.i
	for p.i < len(p.s) {
		rest := p.s[p.i:]
		switch {
		case optional && rest[0] == '}':
			p.i++
			flush()
			return out, nil
		case strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			lit.WriteByte(rest[0])
			p.i += 2
		case rest[0] == '}':
			return nil, fmt.Errorf("byte %d: } without {; a brace is written }}", p.i)
		case rest[0] == '{':
			flush()
			one, err := p.braces(optional)
			if err != nil {
				return nil, err
			}
			out = append(out, one)
		default:
			lit.WriteByte(rest[0])
			p.i++
		}
	}
	if optional {
		return nil, fmt.Errorf("byte %d: the optional part {? has no end", start)
	}
	flush()
	return slices.Clone(out), nil // without room for more: there are many messages
}

// braces reads a placeholder, or an optional part.
func (p *templateParser) braces(optional bool) (part, error) {
	rest := p.s[p.i:]
	if strings.HasPrefix(rest, "{?") {
		if optional {
			return part{}, fmt.Errorf("byte %d: an optional part inside another", p.i)
		}
		at := p.i
		p.i += 2
		option, err := p.parts(true)
		if err == nil && !hasNeeded(option) {
			err = fmt.Errorf("byte %d: the optional part {? names no path without a text for a missing value, so it is never left out", at)
		}
		return part{more: &more{option: option}}, err
	}
	end := strings.IndexByte(rest, '}')
	if end < 0 {
		return part{}, fmt.Errorf("byte %d: { without }; a brace is written {{", p.i)
	}
	p.i += end + 1
	path, fallback, ok := strings.Cut(rest[1:end], "|")
	if path = strings.TrimSpace(path); !ok {
		fallback = "-"
	}
	values, err := p.lookup(path)
	out := part{path: path, text: fallback, needed: !ok}
	if values != nil {
		out.more = &more{values: values}
	}
	return out, err
}

func hasNeeded(parts []part) bool {
	for _, p := range parts {
		if p.needed {
			return true
		}
	}
	return false
}

// defaultMessage is that of a rule without one. The title is literal text.
func defaultMessage(title string) *Message {
	return &Message{parts: []part{{text: title + ": "}, {path: "user.username", text: "nobody"}, {text: " "}, {path: "verb", text: "-"}, {text: " "}, {path: "requestURI", text: "-"}}}
}

// String is the template's source.
func (m *Message) String() string { return m.source }

// Render fills the template from ev. The result is hostile text, at most 4096 bytes; it shares no memory with ev.
func (m *Message) Render(ev *audit.Event) string { return m.render(ev, nil) }

// RenderFacts implements FactsRenderer: Render with values for the CorrelationPaths.
func (m *Message) RenderFacts(ev *audit.Event, f Facts) string { return m.render(ev, &f) }

// usualMessage is room for most, in bytes.
const usualMessage = 256

func (m *Message) render(ev *audit.Event, f *Facts) string {
	var b bytes.Buffer
	b.Grow(usualMessage)
	for _, p := range m.parts {
		if b.Len() > maxMessageBytes {
			break
		}
		if p.more == nil || p.more.option == nil {
			p.render(&b, ev, f)
			continue
		}
		start, whole := b.Len(), true
		for _, q := range p.more.option {
			whole = (q.render(&b, ev, f) || !q.needed) && whole
		}
		if !whole {
			b.Truncate(start)
		}
	}
	return Shorten(b.String(), maxMessageBytes)
}

// render writes one part that is not optional and reports whether it had a value.
func (p *part) render(b *bytes.Buffer, ev *audit.Event, f *Facts) bool {
	if p.path == "" {
		b.WriteString(p.text)
		return true
	}
	start := b.Len()
	for v := range p.of(ev, f) {
		if b.Len() > start {
			b.WriteString(", ")
		}
		b.WriteString(Shorten(v, maxValueBytes))
		if b.Len()-start > maxValueBytes {
			break
		}
	}
	if b.Len() > start {
		return true
	}
	b.WriteString(p.text)
	return false
}

func (p *part) of(ev *audit.Event, f *Facts) iter.Seq[string] {
	switch {
	case p.more != nil:
		return p.more.values(ev)
	case !strings.HasPrefix(p.path, "correlation."):
		return match.Values(ev, p.path)
	}
	return func(yield func(string) bool) {
		if f != nil {
			yield(f.text(p.path))
		}
	}
}

// text is the value of one of the CorrelationPaths.
func (f *Facts) text(path string) string {
	switch path {
	case "correlation.number":
		return strconv.FormatFloat(f.Number, 'f', -1, 64)
	case "correlation.events":
		return strconv.Itoa(f.Events)
	}
	return strconv.FormatInt((f.Last-f.First)/time.Second.Microseconds(), 10)
}

// Shorten cuts s to at most n bytes, of which there are at least three, at a rune's border and marks the cut.
func Shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "…"
	n -= len(mark)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + mark
}
