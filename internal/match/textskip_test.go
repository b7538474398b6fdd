package match

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTextFilter: with the filter the same Texts occur as without.
func TestTextFilter(t *testing.T) {
	words := []string{"akia", "ghp_", "begin rsa private key", "kelvin", "masse-s", "a<b", "12345", "tls.key"}
	parts := append([]string{"AKIA", "ghp", "_", "\u212aelvin", "maſſe-\u017f", "K", `elvin`, `\u0061kia`, `\u212AELVIN`, `\\u0061kia`, `a\u003cb`, `\n`, `\"`, `\\`, " ",
		"x", "é", `\ud83d\ude00`, `\u00e9`, "\xff", "12", `345`, `","`, `":`, `,`, "BEGIN RSA ", "private KEY", `tls\u002ekey`, "akiaghp_"}, words...)
	rapid.Check(t, func(rt *rapid.T) {
		use := rapid.SliceOfN(rapid.SampledFrom(words), 1, 4).Draw(rt, "words")
		slices.Sort(use)
		use = slices.Compact(use)
		var texts []*Text
		var preds []int32
		for i, w := range use {
			texts = append(texts, &Text{Word: w, Open: rapid.Bool().Draw(rt, "open")})
			preds = append(preds, int32(i))
		}
		raw := []byte(`{"a":"`)
		for _, p := range rapid.SliceOfN(rapid.SampledFrom(parts), 0, 12).Draw(rt, "parts") {
			raw = append(raw, p...)
		}
		raw = append(raw, `"}`...)
		ts := newTextSearch(texts, preds)
		if ts.filter == nil {
			rt.Fatal("no filter")
		}
		var s scratch
		s.preds.fit(len(texts))
		ts.occurring(raw, &s, nil)
		got := slices.Clone(s.preds.list)
		ts.filter = nil
		ts.occurring(raw, &s, nil)
		if !slices.Equal(got, s.preds.list) {
			rt.Fatalf("%s: %v, without a filter %v", raw, got, s.preds.list)
		}
	})
	for _, none := range [][]string{{"ab"}, {"akia", "a/b"}, {"café"}, {`a"b`}} {
		if newTextFilter(none) != nil {
			t.Errorf("%q has a filter", none)
		}
	}
}

func BenchmarkTextFilter(b *testing.B) {
	f := newTextFilter([]string{"akia", "ghp_", "glpat-", "xoxb-", "begin private key", "aws_access_key_id", "client-key-data"})
	var raw []byte
	for _, line := range recordedLines(b, "apiserver-1.36.log.zst", 10) {
		raw = append(raw, line...)
	}
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		f.none(raw)
	}
}
