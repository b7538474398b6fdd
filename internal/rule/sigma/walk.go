package sigma

import (
	"bytes"
	"strings"

	"whodunit/internal/audit"
	"whodunit/internal/match"
)

// reach calls f for each raw value that the dotted path leads to from v, until f returns false. Arrays are entered on the way, not at the
// end; the longest literal name wins, the last of equal ones: as match.Values does. With fold, names are compared without case.
func reach(v []byte, path string, fold bool, f func([]byte) bool) bool {
	switch {
	case len(v) == 0:
		return true
	case path == "":
		return f(v)
	case v[0] == '[':
		for el := range audit.Leaves(v) {
			if !reach(el, path, fold, f) {
				return false
			}
		}
		return true
	case v[0] != '{':
		return true
	}
	best, value := -1, []byte(nil)
	for name, mv := range audit.Members(v) {
		n := len(name)
		if n == 0 || n < best || n > len(path) || n < len(path) && path[n] != '.' {
			continue
		}
		if name == path[:n] || fold && match.Fold(name) == match.Fold(path[:n]) {
			best, value = n, mv
		}
	}
	switch {
	case best < 0:
		return true
	case best == len(path):
		return f(value)
	}
	return reach(value, path[best+1:], fold, f)
}

// texts hands the text of v to yield, or of what the arrays in it hold. An object that stands for an XML element is its text.
func texts(v []byte, yield func(string) bool) bool {
	for el := range audit.Leaves(v) {
		if el[0] == '{' {
			if t := member(el, "#text"); len(t) > 0 && t[0] != '{' {
				if !texts(t, yield) {
					return false
				}
			}
			continue
		}
		if t, ok := audit.Text(el); ok && !yield(t) {
			return false
		}
	}
	return true
}

// isNull reports whether v is null, or stands for an XML element without text.
func isNull(v []byte) bool {
	if v[0] != '{' {
		return v[0] == 'n'
	}
	var text []byte
	attributes, others := false, false
	for name, mv := range audit.Members(v) {
		switch name {
		case "#text":
			text = mv
		case "#attributes":
			attributes = true
		default:
			others = true
		}
	}
	if text != nil {
		return text[0] == 'n'
	}
	return attributes && !others
}

// member is the value of one member of the object v, nil if it has none.
func member(v []byte, name string) []byte {
	var out []byte
	for k, mv := range audit.Members(v) {
		if k == name {
			out = mv
		}
	}
	return out
}

// scan reads well-formed JSON in one pass without recursion. visit gets each name (with its value's place following) and each scalar, raw;
// it stops the scan by returning false, or moves it on by returning a place behind at.
func scan(raw []byte, visit func(tok []byte, isName bool, at int) (next int, ok bool)) {
	for i := 0; i < len(raw); {
		start := i
		switch raw[i] {
		case '{', '}', '[', ']', ':', ',', ' ', '\t', '\n', '\r':
			i++
			continue
		case '"':
			i = behind(audit.SkipString, raw, i)
			end := i
			if j := skipSpace(raw, i); j < len(raw) && raw[j] == ':' {
				i = skipSpace(raw, j+1)
				next, ok := visit(raw[start:end], true, i)
				if !ok {
					return
				}
				i = max(i, next)
				continue
			}
		default:
			for i < len(raw) && strings.IndexByte(",]} \t\n\r", raw[i]) < 0 {
				i++
			}
		}
		next, ok := visit(raw[start:i], false, i)
		if !ok {
			return
		}
		i = max(i, next)
	}
}

func skipSpace(raw []byte, i int) int {
	for i < len(raw) && strings.IndexByte(" \t\r\n", raw[i]) >= 0 {
		i++
	}
	return i
}

// behind is the place behind what skip passes over, the end where that has none: of an event whose bodies nobody has checked.
func behind(skip func([]byte, int) int, raw []byte, i int) int {
	if end := skip(raw, i); end >= 0 {
		return end
	}
	return len(raw)
}

// everyText hands the text of every scalar in raw to yield, whatever it is called.
func everyText(raw []byte, yield func(string) bool) {
	scan(raw, func(tok []byte, isName bool, at int) (int, bool) {
		if isName {
			return 0, true
		}
		t, ok := audit.Text(tok)
		return 0, !ok || yield(t)
	})
}

// anyDepth calls f for the raw value of every member of that name in v, however deep, but not inside one.
func anyDepth(v []byte, name string, f func([]byte) bool) {
	quoted := `"` + name + `"`
	scan(v, func(tok []byte, isName bool, at int) (int, bool) {
		if !isName {
			return 0, true
		}
		if string(tok) != quoted {
			if bytes.IndexByte(tok, '\\') < 0 {
				return 0, true
			}
			if t, ok := audit.Text(tok); !ok || t != name {
				return 0, true
			}
		}
		end := behind(audit.SkipValue, v, at)
		return end, f(v[at:end])
	})
}
