package falco

import (
	"strconv"

	"whodunit/internal/audit"
)

// reader reads fields out of events. The zero value is the corrected one.
type reader struct {
	upstream bool // with the defects of the plugin
}

// member is the raw value of one member of the JSON object v, nil where it is missing. Of duplicate names the last counts, as in every
// Kubernetes decoder; the plugin's JSON library takes the first.
func (r reader) member(v []byte, name string) (out []byte) {
	if len(v) == 0 || v[0] != '{' {
		return nil
	}
	for n, m := range audit.Members(v) {
		if n == name {
			if out = m; r.upstream {
				break
			}
		}
	}
	return out
}

// get follows members.
func (r reader) get(v []byte, keys ...string) []byte {
	for _, k := range keys {
		if v = r.member(v, k); v == nil {
			return nil
		}
	}
	return v
}

func isArray(v []byte) bool  { return len(v) > 0 && v[0] == '[' }
func isObject(v []byte) bool { return len(v) > 0 && v[0] == '{' }
func isString(v []byte) bool { return len(v) > 0 && v[0] == '"' }

// element is one element of the JSON array v, nil where it has none of that index.
func element(v []byte, index int) []byte {
	for el := range audit.Elements(v) {
		if index == 0 {
			return el
		}
		index--
	}
	return nil
}

// each hands f what the keys lead to. Arrays on the way are entered, nested ones too; with an index of 0 or more only that element of
// each. f gets nil for an element that lacks the rest of the way. It is false, and f was not called, where the way ends before any array.
func (r reader) each(v []byte, index int, keys []string, f func([]byte)) bool {
	for i, k := range keys {
		if isArray(v) {
			if index < 0 {
				for el := range audit.Leaves(v) {
					if !r.each(el, index, keys[i:], f) {
						f(nil)
					}
				}
				return true
			}
			v = element(v, index)
		}
		if v = r.member(v, k); v == nil {
			return false
		}
	}
	f(v)
	return true
}

// text is a JSON value as Falco compares it: a string decoded, everything else, null included, as its JSON text without white space. It
// may share v's memory.
func text(v []byte) string {
	if t, ok := audit.Text(v); ok {
		return t
	}
	return compact(v)
}

// compact is well-formed JSON without the white space between its tokens.
func compact(v []byte) string {
	out := make([]byte, 0, len(v))
	inside := false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case inside && c == '\\' && i+1 < len(v):
			out = append(out, c)
			i++
			c = v[i]
		case c == '"':
			inside = !inside
		case !inside && c <= ' ':
			continue
		}
		out = append(out, c)
	}
	return string(out)
}

// pointer follows a JSON pointer (RFC 6901) from v; keys are its unescaped parts. In an array a part is an index.
func (r reader) pointer(v []byte, keys []string) []byte {
	for _, k := range keys {
		if isArray(v) {
			n, err := strconv.Atoi(k)
			if err != nil || n < 0 {
				return nil
			}
			v = element(v, n)
		} else {
			v = r.member(v, k)
		}
		if v == nil {
			return nil
		}
	}
	return v
}

// Bounds on an indented event. A client can nest its object 10,000 deep, and then the blanks alone would be a hundred megabytes.
const (
	maxIndented = 8 << 20
	maxIndent   = 100 // levels
)

// indent writes well-formed JSON on lines, two blanks a level, as json.Indent does; as one line where that would be too large.
func indent(v []byte) string {
	out := make([]byte, 0, 2*len(v))
	depth := 0
	line := func() {
		out = append(out, '\n')
		for range min(depth, maxIndent) {
			out = append(out, ' ', ' ')
		}
	}
	inside, opened := false, false
	for i := 0; i < len(v) && len(out) <= maxIndented; i++ {
		c := v[i]
		if !inside && c <= ' ' {
			continue
		}
		if opened && c != ']' && c != '}' {
			depth++
			line()
		}
		closes := !inside && (c == ']' || c == '}')
		if closes && !opened {
			depth--
			line()
		}
		opened = false
		out = append(out, c)
		switch {
		case inside && c == '\\' && i+1 < len(v):
			i++
			out = append(out, v[i])
		case c == '"':
			inside = !inside
		case inside:
		case c == '{' || c == '[':
			opened = true
		case c == ',':
			line()
		case c == ':':
			out = append(out, ' ')
		}
	}
	if len(out) > maxIndented {
		return compact(v)
	}
	return string(out)
}
