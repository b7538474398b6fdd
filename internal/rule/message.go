package rule

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

const (
	maxValueBytes   = 256  // of one placeholder's text in a message
	maxMessageBytes = 4096 // of a whole message
)

// Message is a template: text with `{path}` or `{path|text for a missing value}`; `{{` and `}}` are braces. A path is
// resolved by match.Values; several values are joined by a comma, none gives "-". Immutable.
type Message struct {
	source string
	parts  []part
}

type part struct {
	text string // literal text, or the fallback of a path
	path string
}

// ParseMessage reads a template. known says whether a path may be named; its error is returned with the path.
func ParseMessage(s string, known func(path string) error) (*Message, error) {
	m := &Message{source: s}
	var lit strings.Builder
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "{{"), strings.HasPrefix(s[i:], "}}"):
			lit.WriteByte(s[i])
			i += 2
		case s[i] == '}':
			return nil, fmt.Errorf("byte %d: } without {; a brace is written }}", i)
		case s[i] == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("byte %d: { without }; a brace is written {{", i)
			}
			path, fallback, ok := strings.Cut(s[i+1:i+end], "|")
			if path = strings.TrimSpace(path); !ok {
				fallback = "-"
			}
			if err := known(path); err != nil {
				return nil, err
			}
			m.parts = append(m.parts, part{text: lit.String()}, part{path: path, text: fallback})
			lit.Reset()
			i += end + 1
		default:
			lit.WriteByte(s[i])
			i++
		}
	}
	m.parts = append(m.parts, part{text: lit.String()})
	return m, nil
}

// defaultMessage is that of a rule without one. The title is literal text.
func defaultMessage(title string) *Message {
	return &Message{parts: []part{{text: title + ": "}, {path: "user.username", text: "nobody"}, {text: " "}, {path: "verb", text: "-"}, {text: " "}, {path: "requestURI", text: "-"}}}
}

// String is the template's source.
func (m *Message) String() string { return m.source }

// Render fills the template from ev. The result is hostile text, at most 4096 bytes; it shares no memory with ev.
func (m *Message) Render(ev *audit.Event) string {
	var b strings.Builder
	for _, p := range m.parts {
		if p.path == "" {
			b.WriteString(p.text)
			continue
		}
		start := b.Len()
		for v := range match.Values(ev, p.path) {
			if b.Len() > start {
				b.WriteString(", ")
			}
			b.WriteString(shorten(v, maxValueBytes))
			if b.Len()-start > maxValueBytes {
				break
			}
		}
		if b.Len() == start {
			b.WriteString(p.text)
		}
	}
	return shorten(b.String(), maxMessageBytes)
}

// shorten cuts s to at most n bytes at a rune's border and marks the cut.
func shorten(s string, n int) string {
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
