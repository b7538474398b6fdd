package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"whodunit/internal/audit"
)

func withLists(t *testing.T, groups, ips int) *audit.Event {
	t.Helper()
	list := func(n int, form string) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf(form, i))
		}
		return strings.Join(out, ",")
	}
	e, err := audit.Parse("c", fmt.Appendf(nil, `{"auditID":"1","stage":"Panic","user":{"username":"u","groups":[%s]},"sourceIPs":[%s]}`, list(groups, `"g%d"`), list(ips, `"ip%d"`)))
	if err != nil {
		t.Fatal(err)
	}
	return &e
}

func TestKeys(t *testing.T) {
	e := withLists(t, 2, 2)
	for _, tt := range []struct {
		fields string
		want   []string
	}{
		{"user.username", []string{"u"}},
		{"none", []string{""}},
		{"user.groups", []string{"g0", "g1"}},
		{"user.groups,none,sourceIPs", []string{"g0\t\tip0", "g0\t\tip1", "g1\t\tip0", "g1\t\tip1"}},
	} {
		got, err := Keys(e, strings.Split(tt.fields, ","))
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, %v", tt.fields, got, err)
		}
	}
}

// An event with very many groups is counted at once, also with each twice; its combinations with another list are refused.
func TestKeysOfAHostileEvent(t *testing.T) {
	e := withLists(t, 100_000, 1_000)
	if got, err := Keys(e, []string{"user.groups"}); err != nil || len(got) != 100_000 {
		t.Errorf("%d, %v", len(got), err)
	}
	if got, err := Keys(e, []string{"user.username", "user.groups"}); err != nil || len(got) != 100_000 {
		t.Errorf("%d, %v", len(got), err)
	}
	if got, err := Keys(e, []string{"user.groups", "sourceIPs"}); err == nil {
		t.Errorf("%d combinations", len(got))
	}
}
