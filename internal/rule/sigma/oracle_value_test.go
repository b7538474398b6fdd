package sigma_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
)

// A want is one value of the rule after the modifiers so far.
type want struct {
	runs [][]byte // parts of a text; between two of them stands a wildcard
	wild []byte   // the wildcards, one fewer than runs
	raw  any
}

func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return fmt.Sprint(v)
}

// parse takes \*, \? and \\ for the characters; any other \ is itself.
func parse(s string) want {
	w := want{runs: [][]byte{nil}, raw: s}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && strings.IndexByte(`*?\`, s[i+1]) >= 0:
			i++
			c = s[i]
		case c == '*' || c == '?':
			w.wild = append(w.wild, c)
			w.runs = append(w.runs, nil)
			continue
		}
		w.runs[len(w.runs)-1] = append(w.runs[len(w.runs)-1], c)
	}
	return w
}

func (w want) pad(before, after bool) want {
	if before {
		w.runs, w.wild = append([][]byte{nil}, w.runs...), append([]byte{'*'}, w.wild...)
	}
	if after {
		w.runs, w.wild = append(slices.Clone(w.runs), nil), append(slices.Clone(w.wild), '*')
	}
	return w
}

func (w want) each(f func([]byte) []byte) want {
	r := make([][]byte, len(w.runs))
	for i, b := range w.runs {
		r[i] = f(b)
	}
	w.runs = r
	return w
}

func utf16Bytes(order binary.AppendByteOrder) func([]byte) []byte {
	return func(b []byte) (out []byte) {
		for _, u := range utf16.Encode([]rune(string(b))) {
			out = order.AppendUint16(out, u)
		}
		return out
	}
}

const dashes = "-/–—―"

func wordRune(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }

// windash gives all texts with each dash before a word, and not behind one, replaced by each of the five.
func windash(w want) []want {
	for i, run := range w.runs {
		prev := rune(0)
		for j, r := range string(run) {
			after := string(run[j+len(string(r)):])
			next, _ := firstRune(after)
			if strings.ContainsRune(dashes, r) && !wordRune(prev) && wordRune(next) {
				var out []want
				for _, rest := range windash(want{runs: append([][]byte{[]byte(after)}, w.runs[i+1:]...), wild: w.wild[i:]}) {
					for _, d := range dashes {
						v := want{runs: slices.Clone(w.runs[:i]), wild: w.wild}
						v.runs = append(v.runs, slices.Concat(run[:j], []byte(string(d)), rest.runs[0]))
						v.runs = append(v.runs, rest.runs[1:]...)
						out = append(out, v)
					}
				}
				return out
			}
			prev = r
		}
	}
	return []want{w}
}

func firstRune(s string) (rune, bool) {
	for _, r := range s {
		return r, true
	}
	return 0, false
}

func modify(w want, m string) ([]want, error) {
	switch m {
	case "contains":
		return []want{w.pad(true, true)}, nil
	case "startswith":
		return []want{w.pad(false, true)}, nil
	case "endswith":
		return []want{w.pad(true, false)}, nil
	case "windash":
		return windash(w), nil
	case "wide", "utf16le":
		return []want{w.each(utf16Bytes(binary.LittleEndian))}, nil
	case "utf16be":
		return []want{w.each(utf16Bytes(binary.BigEndian))}, nil
	case "utf16":
		w = w.each(utf16Bytes(binary.LittleEndian))
		w.runs[0] = append([]byte("\xff\xfe"), w.runs[0]...)
		return []want{w}, nil
	case "base64", "base64offset":
		if len(w.wild) > 0 {
			return nil, errNo
		}
		if m == "base64" {
			return []want{{runs: [][]byte{[]byte(base64.StdEncoding.EncodeToString(w.runs[0]))}}}, nil
		}
		var out []want
		for i := range 3 {
			// Only the characters all of whose six bits come from the value are the same wherever it stands.
			b := base64.RawStdEncoding.EncodeToString(slices.Concat(make([]byte, i), w.runs[0]))
			from, to := (8*i+5)/6, 8*(i+len(w.runs[0]))/6
			if from < to {
				out = append(out, want{runs: [][]byte{[]byte(b[from:to])}})
			}
		}
		return out, nil
	}
	return []want{w}, nil
}

func (w want) matches(s string, cased bool) bool {
	var p []rune
	for i, r := range w.runs {
		for _, c := range string(r) {
			p = append(p, c)
		}
		if i < len(w.wild) {
			p = append(p, map[byte]rune{'*': -1, '?': -2}[w.wild[i]])
		}
	}
	if !bytes.Equal(bytes.ToValidUTF8(bytes.Join(w.runs, nil), nil), bytes.Join(w.runs, nil)) {
		return false // bytes that no text of JSON has
	}
	return naive2(p, []rune(s), cased)
}

// a name may have no backslashes: this is for patterns of conditions
func wild(p, s string, cased bool) bool { return parse(p).matches(s, cased) }

func naive2(p, s []rune, cased bool) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == -1:
		return naive2(p[1:], s, cased) || len(s) > 0 && naive2(p, s[1:], cased)
	case len(s) == 0:
		return false
	case p[0] == -2 || p[0] == s[0] || !cased && strings.EqualFold(string(p[0]), string(s[0])):
		return naive2(p[1:], s[1:], cased)
	}
	return false
}
