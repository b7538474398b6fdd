package segment

import (
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"whodunit/internal/audit"
)

// slowWords is the meaning of the word filter: runs of letters and digits of the decoded text.
func slowWords(raw []byte) []string {
	var decoded strings.Builder
	for i := 0; i < len(raw); {
		r, n := runeAt(raw[i:])
		decoded.WriteRune(r)
		i += n
	}
	var out []string
	for _, w := range strings.FieldsFunc(decoded.String(), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		w = strings.NewReplacer("ſ", "s", "\u212a", "k").Replace(w)
		out = append(out, strings.ToLower(w))
	}
	return out
}

func hashesOf(raw []byte) []uint64 {
	s := &wordSet{}
	s.event(raw)
	var got []uint64
	for _, h := range s.table {
		if h != 0 {
			got = append(got, h)
		}
	}
	slices.Sort(got)
	return got
}

func TestWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := []byte(strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"a", "Zz", "kube", "-", " ", `\"`, `\\`, `\n`, `\u0041`, `\u017f`, "é", "ſ", "\u212a", `\ud83d\ude00`,
			"0123456789abcdef", "12ab", "face", "123456Z", `\t`, `\/`, "\xff", "_", "@[`{/:", "x"})).Draw(t, "parts"), ""))
		if got, want := hashesOf(raw), WordHashes(slowWords(raw)); !slices.Equal(got, want) {
			t.Fatalf("%q: %d words, want %d: %q", raw, len(got), len(want), slowWords(raw))
		}
	})
	for _, r := range recorded(t, "apiserver-1.36.log.zst", 500) {
		if got, want := hashesOf(r.Event.Raw), WordHashes(slowWords(r.Event.Raw)); !slices.Equal(got, want) {
			t.Fatalf("%s: %d words, want %d", r.Event.Raw, len(got), len(want))
		}
	}
}

// TestMembers holds the quick walk against audit.Members.
func TestMembers(t *testing.T) {
	check := func(ev *audit.Event) {
		t.Helper()
		type member struct{ name, value string }
		var got, want []member
		members(ev, func(name string, v []byte) { got = append(got, member{name, string(v)}) })
		for name, v := range audit.Members(ev.Raw) {
			want = append(want, member{name, string(v)})
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s:\ngot  %q\nwant %q", ev.Raw, got, want)
		}
	}
	for _, s := range []string{`{"auditID":"a","stage":"b"}`, ` { "auditID" : "a\"}" , "stage":"b","x":1,"y":true , "z":[1,{"a":"]"}],"n":null}`,
		`{"a":-1.5e3,"requestObject":{"x":1},"requestObject":{"y":[2]},"auditID":"a","stage":"b","last":7}`, "{\n\"auditID\":\"a\",\"stage\":\"b\",\"k\\u0065y\":{}\n}"} {
		ev, err := audit.Parse("", []byte(s))
		if err != nil {
			t.Fatal(err)
		}
		check(&ev)
	}
	for _, name := range []string{"apiserver-1.36.log.zst", "edge-1.36.log.zst"} {
		records := recorded(t, name, 2000)
		for i := range records {
			check(&records[i].Event)
		}
	}
}
