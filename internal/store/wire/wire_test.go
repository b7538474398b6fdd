package wire

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

func TestCursor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := store.Position{Micros: rapid.Int64().Draw(t, "micros"), Seq: rapid.Uint64().Draw(t, "seq")}
		s := EncodeCursor(p)
		if got, err := DecodeCursor(s); err != nil || got != p {
			t.Fatalf("%v: %v, %v", p, got, err)
		}
		b := []byte(s)
		i := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[i] ^= 1
		if got, err := DecodeCursor(string(b)); err == nil && got != p {
			t.Fatalf("%q, changed, is taken as %v", b, got)
		}
	})
}

func genExpr(depth int) *rapid.Generator[match.Expr] {
	return rapid.Custom(func(t *rapid.T) match.Expr {
		kind := rapid.IntRange(0, 5).Draw(t, "kind")
		if depth == 0 {
			kind = 3 + kind%3
		}
		switch kind {
		case 0:
			return match.And(rapid.SliceOfN(genExpr(depth-1), 0, 3).Draw(t, "and"))
		case 1:
			return match.Or(rapid.SliceOfN(genExpr(depth-1), 0, 3).Draw(t, "or"))
		case 2:
			return match.Not{X: genExpr(depth-1).Draw(t, "not")}
		case 3:
			return match.Const(rapid.Bool().Draw(t, "const"))
		case 4:
			return &match.Text{Word: rapid.StringN(1, 9, -1).Draw(t, "word"), Open: rapid.Bool().Draw(t, "open")}
		}
		op := rapid.SampledFrom(sendable).Draw(t, "op")
		p := &match.Pred{Path: rapid.String().Draw(t, "path"), Op: op, Fold: rapid.Bool().Draw(t, "fold"), All: rapid.Bool().Draw(t, "all")}
		switch {
		case op >= match.Less && op <= match.GreaterEqual:
			p.Values = []string{rapid.String().Draw(t, "value")}
		case op != match.Exists && op != match.Present:
			p.Values = rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "values")
		}
		return p
	})
}

func TestExprRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genExpr(3).Draw(t, "expr")
		s, err := EncodeExpr(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeExpr(s)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(e, got); diff != "" {
			t.Fatal(diff)
		}
	})
	for _, bad := range []string{"{}", "1", `{"path":"a","op":"~"}`, `{"path":"a","op":"<","values":["1","2"]}`, `{"text":""}`, `{"and":[1]}`,
		strings.Repeat(`{"not":`, 300) + `{"const":true}` + strings.Repeat("}", 300)} {
		if e, err := DecodeExpr(bad); err == nil {
			t.Errorf("%.40s is taken as %v", bad, e)
		}
	}
}

func TestItemIsExact(t *testing.T) {
	for name, raw := range map[string]string{
		"plain":         `{"auditID":"a","stage":"ResponseComplete","verb":"get","stageTimestamp":"2026-03-01T12:00:00.123456Z"}`,
		"indented":      "{\n  \"auditID\": \"a\",\r\n  \"stage\": \"Panic\"\n}",
		"html":          `{"auditID":"<script>&amp;","stage":"x","user":{"username":"\u003cb>"}}`,
		"invalid UTF-8": "{\"auditID\":\"a\xff\",\"stage\":\"x\"}",
		"U+2028":        "{\"auditID\":\"a\u2028\",\"stage\":\"x\"}",
	} {
		t.Run(name, func(t *testing.T) {
			e, err := audit.Parse("prod \"1\"", []byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			e.Flags = audit.FlagIDReused
			want := audit.Record{Seq: 1 << 60, IngestedMicros: 1_700_000_000_000_001, Source: "web\nhook", Identity: e.Identity(), Event: e}
			line := AppendItem(nil, &want)
			if !json.Valid(line) || strings.ContainsAny(string(line), "\n\r") || !IsItem(line) {
				t.Errorf("%q", line)
			}
			got, err := ParseItem(line)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Event.Raw) != raw || got.Seq != want.Seq || got.IngestedMicros != want.IngestedMicros || got.Source != want.Source ||
				got.Identity != want.Identity || got.Event.Cluster != want.Event.Cluster || got.Event.Flags != want.Event.Flags || got.Event.Identity() != want.Identity {
				t.Errorf("got %+v\nwant %+v", got, want)
			}
		})
	}
}

func FuzzParseItem(f *testing.F) {
	f.Add([]byte(`{"identity":"000102030405060708090a0b0c0d0e0f","seq":1,"event":{"auditID":"a","stage":"b"}}`))
	f.Add([]byte(`{"identity":"00","raw":"e30="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseItem(b)
		if err != nil {
			return
		}
		if again, err := ParseItem(AppendItem(nil, &r)); err != nil || string(again.Event.Raw) != string(r.Event.Raw) {
			t.Errorf("%q does not come back: %v", r.Event.Raw, err)
		}
	})
}

func FuzzDecodeExpr(f *testing.F) {
	f.Add(`{"and":[{"path":"verb","op":"==","values":["get"]},{"not":{"text":"x"}}]}`)
	f.Fuzz(func(t *testing.T, s string) {
		e, err := DecodeExpr(s)
		if err != nil || e == nil {
			return
		}
		if _, err := EncodeExpr(e); err != nil {
			t.Error(err)
		}
	})
}

func TestExprsOfRulesAreRefused(t *testing.T) {
	for _, e := range []match.Expr{
		&match.Pred{Path: "verb", Op: match.Regex, Values: []string{"a+"}},
		&match.Pred{Field: &match.Field{Name: "images"}, Op: match.Equal, Values: []string{"x"}},
		&match.Func{Name: "cel"},
	} {
		if s, err := EncodeExpr(match.Not{X: e}); err == nil || !strings.Contains(err.Error(), "for rules alone") {
			t.Errorf("%v: %s %v", e, s, err)
		}
	}
	if _, err := DecodeExpr(`{"path":"verb","op":"matches","values":["a"]}`); err == nil {
		t.Error("a regular expression is read")
	}
}
