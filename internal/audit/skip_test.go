package audit

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// skipPlain is the meaning of SkipValue for containers, byte by byte.
func skipPlain(b []byte, i int) int {
	depth, in := 0, false
	for ; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\' && (in || i+1 < len(b) && (b[i+1] == '"' || b[i+1] == '\\')):
			i++
		case c == '"':
			in = !in
		case in:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

func TestSkipValue(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want int
	}{
		{`{}`, 2}, {`[]x`, 2}, {`{`, -1}, {`"a\"b"c`, 6}, {`"`, -1}, {`"\`, -1}, {`12,`, 2}, {`true}`, 4}, {``, -1}, {`,`, -1}, {`null`, 4},
		{`{"a":"}"}`, 9}, {`["\\"]`, 6}, {`["\\\""]`, 8}, {`{"a":[{}]} `, 10},
	} {
		if got := SkipValue([]byte(tt.in), 0); got != tt.want {
			t.Errorf("%q: %d, want %d", tt.in, got, tt.want)
		}
	}
}

// TestSkipBlocks holds both forms against the plain meaning on texts made of what matters, at every alignment.
func TestSkipBlocks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{`{`, `}`, `[`, `]`, `"`, `\`, `\\`, `\"`, `a`, "\x00", "é", `{"a":1}`, `"x"`, strings.Repeat("y", 61), strings.Repeat(`\`, 63)}), 0, 80).Draw(t, "parts")
		b := []byte("[" + strings.Join(parts, ""))
		want := skipPlain(b, 0)
		if got := SkipValue(b, 0); got != want {
			t.Fatalf("%q: %d, want %d", b, got, want)
		}
		if got := skipBytes(b, 1, skipState{depth: 1}); got != want {
			t.Fatalf("plain form: %q: %d, want %d", b, got, want)
		}
	})
}

func FuzzSkipValue(f *testing.F) {
	f.Add([]byte(`{"a":["\\\"",{}]}` + strings.Repeat(" ", 64)))
	f.Add(append(bytes.Repeat([]byte(`[`), 70), bytes.Repeat([]byte(`]`), 70)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || b[0] != '{' && b[0] != '[' {
			return
		}
		if got, want := SkipValue(b, 0), skipPlain(b, 0); got != want {
			t.Fatalf("%q: %d, want %d", b, got, want)
		}
	})
}

func BenchmarkSkipValue(b *testing.B) {
	body := []byte(`{"metadata":{"name":"web-7d4b9c","labels":{"app":"web"}},"spec":{"containers":[` +
		strings.Repeat(`{"name":"c","image":"registry.example.test/team/app:1.2.3","args":["--flag=\"x\"","-v"],"ports":[{"containerPort":8080}]},`, 20) + `{}]}}`)
	for _, form := range []string{"blocks", "plain"} {
		b.Run(fmt.Sprintf("%s/%dB", form, len(body)), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				var end int
				if form == "plain" {
					end = skipBytes(body, 1, skipState{depth: 1})
				} else {
					end = SkipValue(body, 0)
				}
				if end != len(body) {
					b.Fatal(end)
				}
			}
		})
	}
}
