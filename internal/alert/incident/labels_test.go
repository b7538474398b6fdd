package incident

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"whodunit/internal/finding"
)

func TestIdentity(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ü", 150)
	for name, tc := range map[string]struct {
		group map[string]string
		user  string
		want  map[string]string // besides alertname, cluster, rule, severity
	}{
		"no group":        {nil, "alice", map[string]string{"user": "alice", "namespace": "shop", "resource": "pods/exec"}},
		"empty":           {nil, "", map[string]string{"namespace": "shop", "resource": "pods/exec"}},
		"known paths":     {map[string]string{"user.username": "u", "objectRef.name": "n", "objectRef.namespace": "ns", "objectRef.resource": ""}, "x", map[string]string{"user": "u", "name": "n", "namespace": "ns"}},
		"other paths":     {map[string]string{`annotations["a.io/b"]`: "v", "0x": "w", "peer": "p"}, "x", map[string]string{"annotations__a_io_b__": "v", "_0x": "w", "peer": "p"}},
		"cluster":         {map[string]string{"cluster": "prod"}, "x", map[string]string{}},
		"not ours":        {map[string]string{"severity": "s", "rule": "r", "alertname": "a", "overflow": "true"}, "x", map[string]string{"group_severity": "s", "group_rule": "r", "group_alertname": "a", "group_overflow": "true"}},
		"two of one name": {map[string]string{"a.b": "1", "a_b": "2"}, "x", map[string]string{"a_b": "1", "group_a_b": "2"}},
		"hostile":         {map[string]string{"peer": "a\x00\u202eb\u200bc"}, "x", map[string]string{"peer": distinct("a\x00\u202eb\u200bc")}},
		"long":            {map[string]string{"peer": long}, "x", map[string]string{"peer": distinct(long)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := read(t, 1, "r", tc.user, "shop", time.Unix(1e9, 0).UTC(), func(f *finding.Finding) { f.Group = tc.group })
			got := identify(&f).labels()
			for name, want := range map[string]string{"alertname": "Rule r", "cluster": "prod", "rule": "r", "severity": "high"} {
				if got[name] != want {
					t.Errorf("%s = %q, want %q", name, got[name], want)
				}
				delete(got, name)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("labels (-want +got):\n%s", d)
			}
		})
	}
}

func TestTextIsCleanAndBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(rt, "bytes")) + rapid.StringN(0, 200, 800).Draw(rt, "text")
		other := s + rapid.StringN(0, 3, 9).Draw(rt, "more")
		for name, got := range map[string]string{"clean": clean(s, maxValue), "distinct": distinct(s)} {
			if len(got) > maxValue || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }) {
				rt.Errorf("%s of %q is %q", name, s, got)
			}
		}
		if s != other && distinct(s) == distinct(other) {
			rt.Errorf("%q and %q are both %q", s, other, distinct(s))
		}
	})
}
