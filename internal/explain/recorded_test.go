package explain

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"

	"whodunit/internal/audit"
	"whodunit/internal/match"
	"whodunit/internal/store"
)

type command struct {
	ID       string   `json:"id"`
	Command  string   `json:"command"`
	User     string   `json:"user"`
	RC       int      `json:"rc"`
	AuditIDs []string `json:"auditIDs"`
}

func commands(t *testing.T) []command {
	f, err := os.Open(shared(t, "kubectl-commands.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []command
	for s := bufio.NewScanner(f); s.Scan(); {
		var c command
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// typed is the object that the command line names, as its user wrote it: KIND NAME or KIND/NAME behind the command.
func typed(c command) (args []string, ns string) {
	words := strings.Fields(c.Command)[2:]
	var pos []string
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "--":
			i = len(words)
		case w == "-n":
			i++
			ns = words[i]
		case w == "-f" || w == "-k" || w == "-l" || w == "--all":
			return nil, ""
		case w == "-p" || w == "--as" || w == "--as-group" || w == "--subresource" || w == "--type" || w == "-c" || w == "-o" || w == "--raw":
			i++
		case strings.HasPrefix(w, "-"):
		default:
			pos = append(pos, w)
		}
	}
	switch {
	case len(pos) > 0 && strings.Contains(pos[0], "/"):
		return pos[:1], ns
	case strings.HasPrefix(c.Command, "kubectl exec") && len(pos) > 0:
		return []string{"pod", pos[0]}, ns
	case len(pos) > 2 && (pos[0] == "secret" || pos[0] == "service"):
		return []string{pos[0], pos[2]}, ns
	case len(pos) >= 2:
		return pos[:2], ns
	}
	return nil, ""
}

// Every command that changed something or went into a pod must be found again under its user.
func TestWhoNamesTheUserOfEveryRecordedCommand(t *testing.T) {
	m := recordedEvents(t)
	byID := map[string][]*audit.Event{}
	for _, r := range m {
		byID[r.Event.AuditID] = append(byID[r.Event.AuditID], &r.Event)
	}
	asked, fromCommandLine := 0, 0
	for _, c := range commands(t) {
		word := strings.Fields(c.Command)[1]
		if c.RC != 0 || word == "get" || word == "auth" {
			continue
		}
		for _, id := range c.AuditIDs {
			for _, ev := range byID[id] {
				verb, ok := questionOf(ev)
				if !ok {
					continue
				}
				kind := ev.ObjectRef.Resource
				if ev.ObjectRef.APIGroup != "" {
					kind += "." + ev.ObjectRef.APIGroup
				}
				asked++
				mustName(t, m, c, verb, id, ev.ObjectRef.Namespace, kind, ev.ObjectRef.Name)
				if !slices.Contains([]string{"delete", "create", "scale", "exec", "edit", "patch", "label", "annotate"}, word) {
					continue
				}
				if args, ns := typed(c); args != nil {
					fromCommandLine++
					mustName(t, m, c, verb, id, ns, args...)
				}
			}
		}
	}
	t.Logf("%d questions, and %d as typed on the command line", asked, fromCommandLine)
	if asked < 150 || fromCommandLine < 100 {
		t.Errorf("only %d and %d questions: the test lost its data", asked, fromCommandLine)
	}
}

// questionOf is the question that one of a command's requests answers.
func questionOf(ev *audit.Event) (Verb, bool) {
	if ev.Stage != audit.StageResponseComplete || ev.Response.Code >= 400 || ev.ObjectRef.Name == "" {
		return "", false
	}
	writes := ev.Verb == "patch" || ev.Verb == "update"
	switch {
	case ev.ObjectRef.Subresource == "exec":
		return Execd, true
	case ev.Verb == "delete" || ev.ObjectRef.Subresource == "eviction":
		return Deleted, true
	case ev.ObjectRef.Subresource == "scale" && writes:
		return Scaled, true
	case ev.Verb == "create" && ev.ObjectRef.Subresource == "" || writes && ev.Response.Code == 201:
		return Created, true
	case writes:
		return Changed, true
	}
	return "", false
}

// What people did whose commands were not written down, from the events' own words.
func TestWhoNamesEveryDeletionAndScaling(t *testing.T) {
	m := recordedEvents(t)
	asked := map[Verb]int{}
	for _, r := range m {
		ev := &r.Event
		verb, ok := questionOf(ev)
		if !ok || verb == Created || verb == Changed || strings.HasPrefix(ev.User.Username, "system:") || asked[verb] == 60 {
			continue
		}
		asked[verb]++
		kind := ev.ObjectRef.Resource + "." + ev.ObjectRef.APIGroup
		mustName(t, m, command{ID: "event", User: ev.User.Username}, verb, ev.AuditID, ev.ObjectRef.Namespace, strings.TrimSuffix(kind, "."), ev.ObjectRef.Name)
	}
	t.Log(asked)
	if asked[Deleted] < 60 || asked[Scaled] < 15 || asked[Execd] < 30 {
		t.Errorf("the test lost its data: %v", asked)
	}
}

func mustName(t *testing.T, m memory, c command, verb Verb, id, ns string, object ...string) {
	t.Helper()
	for _, a := range ask(t, m, verb, ns, object...) {
		if slices.Contains(a.AuditIDs, id) {
			if a.User != c.User || a.Possible || a.Outcome != OK {
				t.Errorf("%s %s: %s", c.ID, c.Command, a.Line())
			}
			return
		}
	}
	t.Errorf("%s %s: who %s %v in %q does not name %s (%s)", c.ID, c.Command, verb, object, ns, c.User, id)
}

// Judge must never want an event that Expr keeps from it.
func TestExprLetsThroughWhatJudgeAccepts(t *testing.T) {
	m := recordedEvents(t)
	for _, verb := range []Verb{Deleted, Created, Changed, Scaled, Execd, Read} {
		for _, object := range [][3]string{{"deploy", "shop", "a0"}, {"secret", "db-creds", "a0"}, {"pod", "db-0", "b0"}, {"ns", "tmp-c0", ""},
			{"databases.dbc0.example.test", "orders", "c0"}, {"database", "orders", "c0"}, {"pod", "shop-8689cc995-spvg5", ""}, {"node", "node-1", ""}} {
			o, err := ParseObject(object[2], object[0], object[1])
			if err != nil {
				t.Fatal(err)
			}
			q := Question{Verb: verb, Object: o, Status: true}
			e := q.Expr()
			found := 0
			for _, r := range m {
				if a := q.Judge(&r.Event); a != nil {
					found++
					if !match.Eval(e, &r.Event) {
						t.Fatalf("who %s %s: not selected: %s", verb, o, a.Line())
					}
				}
			}
			t.Logf("who %s %s: %d events", verb, o, found)
		}
	}
}

// The table of kinds must know all that a real 1.36 API server serves.
func TestKindsOfARealServer(t *testing.T) {
	served := map[string]bool{}
	for _, r := range recordedEvents(t) {
		body := r.Event.ResponseObject
		if text(body, "kind") != "APIResourceList" {
			continue
		}
		group, _, ok := strings.Cut(text(body, "groupVersion"), "/")
		if !ok {
			group = ""
		}
		for el := range audit.Elements(member(body, "resources")) {
			name, kindName := text(el, "name"), text(el, "kind")
			if strings.Contains(name, "/") || strings.HasSuffix(group, ".example.test") {
				continue
			}
			served[group+"/"+name] = true
			names := []string{name, text(el, "singularName"), kindName}
			for s := range audit.Elements(member(el, "shortNames")) {
				short, _ := audit.Text(s)
				names = append(names, short)
			}
			for _, n := range names {
				o, err := ParseObject("ns", n+"/x")
				if err != nil || len(o.Resources) != 1 || o.Resources[0] != name || !contains(o.Groups, group) ||
					o.Cluster == (text(el, "namespaced") == "true") {
					t.Errorf("%s of %s/%s: %+v %v", n, group, name, o, err)
				}
			}
		}
	}
	if len(served) < 20 {
		t.Errorf("only %d kinds seen", len(served))
	}
	t.Logf("%d kinds", len(served))
}

func TestErrorsAndLoadOfRecordedEvents(t *testing.T) {
	m := recordedEvents(t)
	ids, want, failed := map[string]bool{}, int64(0), int64(0)
	for _, r := range m {
		ids[r.Event.AuditID] = true
		if r.Event.Stage == audit.StageResponseComplete || r.Event.Response.Code == 401 {
			want++
			if r.Event.Response.Code >= 400 {
				failed++
			}
		}
	}
	clients, total, _, err := Load(context.Background(), m, store.Query{}, 0)
	if err != nil || total != want || total > int64(len(ids)) {
		t.Errorf("%d requests counted, want %d of %d ids: %v", total, want, len(ids), err)
	}
	failures, _, err := Errors(context.Background(), m, store.Query{}, 0)
	sum := int64(0)
	codes := map[string]int64{}
	for _, f := range failures {
		sum += f.Count
		codes[f.Code] += f.Count
	}
	if err != nil || sum != failed || codes["401"] != 48 {
		t.Errorf("%d failures counted, want %d; %v %v", sum, failed, codes, err)
	}
	var b strings.Builder
	if err := WriteErrors(&b, failures[:5]); err != nil {
		t.Error(err)
	}
	if err := WriteLoad(&b, clients[:5], total, 0); err != nil {
		t.Error(err)
	}
	t.Logf("%d ids, %d requests\n%s", len(ids), total, b.String())
}

// Hostile and huge events: chosen ids, odd agents, control characters. No answer may carry them to a terminal.
func TestHostileRecordedEvents(t *testing.T) {
	m := recordedFile(t, "edge-1.36.log.zst")
	told := 0
	for _, verb := range []Verb{Deleted, Created, Changed, Scaled, Execd, Read} {
		for _, r := range m {
			ref := r.Event.ObjectRef
			if ref.Resource == "" {
				continue
			}
			q := Question{Verb: verb, Object: Object{Resources: []string{ref.Resource}, Namespace: ref.Namespace, Name: ref.Name}, Status: true}
			a := q.Judge(&r.Event)
			if a == nil {
				continue
			}
			told++
			line := a.Line()
			if strings.ContainsFunc(line, func(c rune) bool { return c != ' ' && !unicode.IsPrint(c) }) || len(line) > 8000 {
				t.Errorf("%q", line)
			}
		}
	}
	if told < 50 {
		t.Errorf("only %d acts", told)
	}
}
