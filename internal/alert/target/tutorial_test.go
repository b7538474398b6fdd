package target

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"whodunit/internal/alert"
	"whodunit/internal/audit"
	"whodunit/internal/detect"
	"whodunit/internal/rule"
	"whodunit/internal/rule/parseable"
)

// tutorial is the alert file of the tutorial, as it stands there.
const tutorial = `{
    "version": "v1",
    "alerts": [
        {
            "name": "Unauthorised access",
            "message": "secret was accessed by an unauthorised user",
            "rule": {
                "config": "(verb =% \"list\" or verb =% \"get\") and (objectRef_resource = \"secrets\" and user_username !% \"cloudyuga-test\")",
                "type": "composite"
            },
            "targets": [
                {
                    "type": "webhook",
                    "endpoint": "<webhook.site_custom_endpoint>",
                    "skip_tls_check": false,
                    "repeat": {
                        "interval": "10s",
                        "times": 5
                    }
                }
            ]
        }
    ]
}`

const column = `{"version": "v1", "alerts": [{"name": "Two reads", "message": "{user_username} reads again",
"rule": {"type": "column", "config": {"column": "verb", "operator": "exact", "value": "list", "repeats": 2}},
"targets": [{"type": "webhook", "endpoint": "<webhook.site_custom_endpoint>", "repeat": {"interval": "10s", "times": 1}}]}]}`

// TestTutorialIsAsItStands holds the copy to the tutorial where that is at hand.
func TestTutorialIsAsItStands(t *testing.T) {
	root := os.Getenv("WHODUNIT_SHARED")
	if root == "" {
		t.Skip("WHODUNIT_SHARED is not set")
	}
	texts, err := filepath.Glob(filepath.Join(root, "seeds", "001_*.txt"))
	if err != nil || len(texts) != 1 {
		t.Skip("no tutorial there")
	}
	text, err := os.ReadFile(texts[0])
	if err != nil || !strings.Contains(string(text), tutorial) {
		t.Error("the tutorial says something else", err)
	}
}

// inbox is a server that keeps what it is posted. It closes each connection, so that none is open when time is to pass.
type inbox struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
}

func newInbox() *inbox {
	b := &inbox{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.bodies = append(b.bodies, string(body))
	}))
	b.Config.SetKeepAlivesEnabled(false)
	return b
}

func (b *inbox) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.bodies
	b.bodies = nil
	return out
}

type slice struct{ recs []audit.Record }

func (s *slice) Next(context.Context) ([]audit.Record, error) {
	if len(s.recs) == 0 {
		return nil, io.EOF
	}
	out := s.recs
	s.recs = nil
	return out, nil
}

// found is what the detector finds in events: user and verb, about secrets.
func found(t *testing.T, set *rule.Set, events ...[2]string) (out []audit.Record) {
	var recs []audit.Record
	for i, e := range events {
		raw, err := json.Marshal(map[string]any{"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": string(rune('a' + i)), "stage": "ResponseComplete", "verb": e[1],
			"user": map[string]string{"username": e[0]}, "objectRef": map[string]string{"resource": "secrets"}, "stageTimestamp": time.Now().Add(time.Duration(i) * time.Second)})
		if err != nil {
			t.Fatal(err)
		}
		ev, err := audit.Parse("auditdemo", raw)
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, audit.Record{Seq: uint64(i + 1), Identity: ev.Identity(), Event: ev})
	}
	cur := new(rule.Current)
	cur.Store(set)
	d, err := detect.New(detect.Options{Reader: &slice{recs}, Rules: cur, Judge: detect.JudgeOptions{Lateness: -1}, Emit: func(_ context.Context, b audit.Batch) error {
		for _, ev := range b.Events {
			out = append(out, audit.Record{Seq: uint64(len(out) + 1), Event: ev})
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out
}

func deliver(t *testing.T, n *Notifier, recs []audit.Record) {
	p, err := alert.New(alert.Options{Name: "targets", Reader: &slice{recs}, Notifier: n, Save: n.Save})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestTutorial: the tutorial's file, with an endpoint put in as it says, from the event to the posts, with a restart in between.
func TestTutorial(t *testing.T) {
	const fired = "Unauthorised access triggered on auditdemo\nMessage: secret was accessed by an unauthorised user\nFailing Condition: " +
		`(verb =% "list" or verb =% "get") and (objectRef_resource = "secrets" and user_username !% "cloudyuga-test")`
	const last = "Unauthorised access triggered on auditdemo\nMessage: not resolved after 5 repeats, this is the last message: secret was accessed by an unauthorised user\nFailing Condition: " +
		`(verb =% "list" or verb =% "get") and (objectRef_resource = "secrets" and user_username !% "cloudyuga-test")`
	const two = "Two reads triggered on auditdemo\nMessage: system:serviceaccount:default:test-demo reads again\nFailing Condition: verb column equal to list, 2 times"
	allowed, demo := "system:serviceaccount:default:cloudyuga-test", "system:serviceaccount:default:test-demo"
	for name, tt := range map[string]struct {
		file, compat string
		events       [][2]string
		want         []string
	}{
		"strict":         {tutorial, Strict, [][2]string{{allowed, "list"}, {demo, "list"}, {demo, "list"}}, []string{fired, fired, fired, fired, fired, fired, last}},
		"grouped":        {tutorial, "", [][2]string{{demo, "get"}, {demo, "list"}}, []string{fired, fired, fired, fired, fired, fired, "Unauthorised access on auditdemo is now resolved "}},
		"nobody":         {tutorial, Strict, [][2]string{{allowed, "list"}}, nil},
		"strict column":  {column, Strict, [][2]string{{demo, "list"}, {demo, "get"}, {demo, "list"}, {demo, "get"}}, []string{two, "Two reads on auditdemo is now resolved "}},
		"grouped column": {column, Default, [][2]string{{demo, "list"}, {demo, "list"}}, []string{two, two, "Two reads on auditdemo is now resolved "}},
	} {
		t.Run(name, func(t *testing.T) {
			in := newInbox()
			defer in.Close()
			text := strings.Replace(tt.file, "<webhook.site_custom_endpoint>", in.URL+"/hook", 1)
			loaded := rule.Parse("alerts.json", []byte(text), parseable.New(parseable.Options{}))
			if len(loaded.Problems) > 0 {
				t.Fatal(loaded.Problems)
			}
			set, _ := rule.NewSet(loaded.Rules)
			synctest.Test(t, func(t *testing.T) {
				o := Options{Rule: newRules(set.Rules()...).get, Compat: tt.compat, StateFile: filepath.Join(t.TempDir(), "targets.json")}
				recs := found(t, set, tt.events...)
				n := create(t, o)
				stop := start(t, n)
				deliver(t, n, recs)
				<-time.After(25 * time.Second)
				synctest.Wait()
				stop()
				n = create(t, o)
				stop = start(t, n)
				deliver(t, n, recs) // nothing new
				<-time.After(time.Hour)
				synctest.Wait()
				stop()
			})
			if diff := gocmp.Diff(tt.want, in.take()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
