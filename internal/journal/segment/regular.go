package segment

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"whodunit/internal/audit"
)

// derive finds in one pass over the raw event what the columns need beside audit.Event: the members of findings, and whether
// the columns will say exactly what the JSON says. In doubt it says that they will not, which costs time, never truth.
func derive(rec *audit.Record) row {
	r := row{Record: rec}
	raw := rec.Event.Raw
	r.irregular = !utf8.Valid(raw) || int64(rec.Event.Response.Code) != int64(int32(rec.Event.Response.Code))
	members(&rec.Event, func(name string, v []byte) {
		var ok bool
		switch name {
		case "auditID", "stage", "level", "verb", "requestURI", "userAgent":
			ok = plainText(v)
		case "user", "impersonatedUser":
			ok = plainUser(v)
		case "sourceIPs":
			ok = plainList(v)
		case "objectRef":
			ok = plainRef(v)
		case "responseStatus":
			ok = plainStatus(v)
		case "annotations":
			ok = plainAnnotations(v, &r.emptyReason)
		case "rule":
			r.rule, _ = audit.Text(v)
			ok = plainText(v)
		case "severity":
			r.severity, _ = audit.Text(v)
			ok = plainText(v)
		default:
			ok = strings.IndexByte(name, '.') < 0
		}
		r.irregular = r.irregular || !ok
	})
	return r
}

// members calls f for each member of the event, as audit.Members does, but steps over the bodies, whose ends are known. Raw has
// passed audit.Parse.
func members(ev *audit.Event, f func(name string, v []byte)) {
	raw := ev.Raw
	for i := 1; i < len(raw); {
		i += blanks(raw[i:])
		if i >= len(raw) || raw[i] != '"' {
			return
		}
		end := i + textLen(raw[i:])
		name, _ := audit.Text(raw[i:end])
		i = end + blanks(raw[end:]) + 1 // the colon
		if i >= len(raw) {
			return
		}
		i += blanks(raw[i:])
		end = i + extent(ev, raw[i:])
		f(name, raw[i:end])
		i = end + blanks(raw[end:]) + 1 // the comma or brace
	}
}

func blanks(b []byte) int {
	n := 0
	for n < len(b) && (b[n] == ' ' || b[n] == '\n' || b[n] == '\t' || b[n] == '\r') {
		n++
	}
	return n
}

// textLen is the length of the string that b begins with, quotes included.
func textLen(b []byte) int {
	for i := 1; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			break
		}
		i += n + 1
		slashes := 0
		for b[i-2-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
	return len(b)
}

// extent is the length of the value that b begins with; b is the rest of the event.
func extent(ev *audit.Event, b []byte) int {
	for _, body := range [...][]byte{ev.RequestObject, ev.ResponseObject} {
		if len(body) > 0 && &body[0] == &b[0] {
			return len(body)
		}
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i += textLen(b[i:]) - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return i + 1 + min(depth, 0) // below 0: the brace ends the event, not the value
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

// plainText: null, or a scalar that is not empty.
func plainText(v []byte) bool { return v[0] != '{' && v[0] != '[' && string(v) != `""` }

// plainList: null, or an array of scalars with at least one element.
func plainList(v []byte) bool {
	if v[0] == 'n' {
		return true
	}
	if v[0] != '[' {
		return false
	}
	n := 0
	for el := range audit.Elements(v) {
		if el[0] == '{' || el[0] == '[' || el[0] == 'n' {
			return false
		}
		n++
	}
	return n > 0
}

func plainObject(v []byte, member func(name string, v []byte) bool) bool {
	if v[0] == 'n' {
		return true
	}
	if v[0] != '{' {
		return false
	}
	for name, v := range audit.Members(v) {
		if !member(name, v) {
			return false
		}
	}
	return true
}

func plainUser(v []byte) bool {
	return plainObject(v, func(name string, v []byte) bool {
		switch name {
		case "username", "uid":
			return plainText(v)
		case "groups":
			return plainList(v)
		}
		return true
	})
}

func plainRef(v []byte) bool {
	return plainObject(v, func(name string, v []byte) bool {
		switch name {
		case "resource", "subresource", "namespace", "name", "apiGroup":
			return plainText(v)
		case "apiVersion": // v1alpha1 has the group in it
			return plainText(v) && bytes.IndexByte(v, '/') < 0 && bytes.IndexByte(v, '\\') < 0
		}
		return true
	})
}

func plainStatus(v []byte) bool {
	return plainObject(v, func(name string, v []byte) bool {
		switch name {
		case "code":
			n, err := strconv.Atoi(string(v))
			return v[0] == 'n' || err == nil && n != 0 && n <= math.MaxInt32 && n >= math.MinInt32
		case "reason":
			return plainText(v)
		}
		return true
	})
}

func plainAnnotations(v []byte, emptyReason *bool) bool {
	*emptyReason = false
	return plainObject(v, func(name string, v []byte) bool {
		switch name {
		case audit.AnnotationReason:
			*emptyReason = string(v) == `""`
			return *emptyReason || plainText(v)
		case audit.AnnotationDecision:
			return plainText(v)
		}
		//nolint:gocritic // a name that ends inside another's, at a dot
		return name != "" && !strings.HasPrefix(audit.AnnotationDecision, name+".") && !strings.HasPrefix(audit.AnnotationReason, name+".")
	})
}
