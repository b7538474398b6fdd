package app

import (
	"fmt"
	"testing"

	"whodunit/internal/audit"
	"whodunit/internal/store/memory"
)

// The answer to a dry run shows what its sender wants: revert_binding must not take it for what was.
func TestEarlierPassesOverDryRuns(t *testing.T) {
	t.Parallel()
	const path = "/apis/rbac.authorization.k8s.io/v1/namespaces/a/rolebindings/grant"
	change := func(second int, query string) *audit.Event {
		ev, err := audit.Parse("one", fmt.Appendf(nil, `{"kind":"Event","auditID":"a-%d","stage":"ResponseComplete","verb":"update","requestURI":"%s%s",
			"objectRef":{"resource":"rolebindings","namespace":"a","name":"grant","apiGroup":"rbac.authorization.k8s.io"},"responseStatus":{"code":200},
			"responseObject":{"metadata":{"name":"grant"}},"requestReceivedTimestamp":"2026-03-01T12:00:0%[1]d.000000Z","stageTimestamp":"2026-03-01T12:00:0%[1]d.000000Z"}`,
			second, path, query))
		if err != nil {
			t.Fatal(err)
		}
		return &ev
	}
	var s memory.Store
	for i, ev := range []*audit.Event{change(1, ""), change(2, "?dryRun=All"), change(3, "?fieldManager=x&dryRun=All")} {
		s.Add(audit.Record{Seq: uint64(i + 1), Event: *ev, Identity: ev.Identity()})
	}
	got, err := earlier(t.Context(), &s, change(5, ""))
	if err != nil || got == nil || got.AuditID != "a-1" {
		t.Errorf("earlier is %v, %v; wanted a-1", got, err)
	}
}
