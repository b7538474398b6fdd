package explain

import (
	"slices"
	"strings"
	"testing"

	"whodunit/internal/audit"
)

// heading is what must agree of two commands.
type heading struct{ verb, kind, name, ns string }

// headingOf reads a command that is split into words.
func headingOf(w []string) heading {
	h := heading{verb: w[1]}
	rest := w[2:]
	if slices.Contains([]string{"rollout", "auth", "certificate", "set"}, h.verb) {
		h.verb, rest = h.verb+" "+rest[0], rest[1:]
	}
	var pos []string
	file := false
	for i := 0; i < len(rest) && rest[i] != "--"; i++ {
		switch f := rest[i]; {
		case f == "-n":
			i++
			h.ns = rest[i]
		case f == "--raw":
			i++
			h.kind = rest[i]
		case strings.HasPrefix(f, "--raw="):
			h.kind = f[6:]
		case (f == "-f" || f == "-k") && h.verb != "logs":
			i++
			file = true
		case slices.Contains([]string{"-l", "-c", "-o", "--as", "--as-group", "--subresource", "--type", "--image", "--tail"}, f), f == "-p" && h.verb == "patch":
			i++
		case !strings.HasPrefix(f, "-"):
			pos = append(pos, f)
		}
	}
	pods, nodes := []string{"exec", "logs", "attach", "port-forward", "debug", "run", "cp"}, []string{"cordon", "uncordon", "drain"}
	switch {
	case file || h.kind != "" || len(pos) == 0 || h.verb == "auth can-i":
		return h
	case h.verb == "cp":
		ns, pod, _ := strings.Cut(pos[0], "/")
		pod, _, _ = strings.Cut(pod, ":")
		h.kind, h.ns, h.name = "pods", ns, pod
		return h
	case strings.Contains(pos[0], "/") && !strings.HasPrefix(pos[0], "/"):
		pos = append(strings.SplitN(pos[0], "/", 2), pos[1:]...)
	case slices.Contains(pods, h.verb):
		pos = append([]string{"pods"}, pos...)
	case slices.Contains(nodes, h.verb):
		pos = append([]string{"nodes"}, pos...)
	case strings.HasPrefix(h.verb, "certificate "):
		pos = append([]string{"csr"}, pos...)
	case h.verb == "create" && len(pos) > 1 && (pos[0] == "secret" || pos[0] == "service"):
		pos = append(pos[:1:1], pos[2:]...)
	}
	h.kind = pos[0]
	if o, err := ParseObject("", pos[0], "x"); err == nil {
		h.kind = o.Resources[0]
		if len(o.Groups) > 0 && strings.Contains(pos[0], ".") {
			h.kind += "." + o.Groups[0]
		}
	}
	if len(pos) > 1 {
		h.name = pos[1]
	}
	return h
}

// mains is the requests that a command was typed for: not discovery, and not what was read before or behind.
func mains(all []*audit.Event) []*audit.Event {
	var of, less []*audit.Event
	for _, ev := range all {
		// timeout=32s is discovery's.
		if ev.Stage == audit.StageResponseComplete && !strings.Contains(ev.RequestURI, "timeout=32s") && !strings.HasPrefix(ev.RequestURI, "/openapi/") {
			of = append(of, ev)
		}
	}
	for _, ev := range of {
		if ev.Verb != "get" || ev.ObjectRef.Subresource != "" || ev.ObjectRef.Resource == "" {
			less = append(less, ev)
		}
	}
	if len(less) > 0 {
		of = less
	}
	if len(of) > 1 { // the same object, read several times
		for _, ev := range of[1:] {
			if ev.RequestURI != of[0].RequestURI || ev.Verb != of[0].Verb {
				return of
			}
		}
	}
	return of[:min(len(of), 1)]
}

// Recorded commands with one main request must be told as they were typed.
func TestKubectlOfEveryRecordedCommand(t *testing.T) {
	byID := map[string][]*audit.Event{}
	for _, r := range recordedEvents(t) {
		byID[r.Event.AuditID] = append(byID[r.Event.AuditID], &r.Event)
	}
	asked, right, several, none := 0, 0, 0, 0
	differ := map[string]int{}
	for _, c := range commands(t) {
		var all []*audit.Event
		for _, id := range c.AuditIDs {
			all = append(all, byID[id]...)
		}
		main := mains(all)
		if len(main) != 1 {
			if several++; len(main) == 0 {
				none++
			}
			continue
		}
		asked++
		w, err := shellSplit(c.Command)
		if err != nil {
			t.Fatalf("%s: %v", c.Command, err)
		}
		got, typed := Kubectl(main[0])
		if !typed {
			t.Errorf("%s: not taken for kubectl's: %s", c.Command, main[0].UserAgent)
		}
		g, err := shellSplit(got)
		if err != nil || len(g) < 2 {
			t.Fatalf("%s: %q, %v", c.Command, got, err)
		}
		want, have := headingOf(w), headingOf(g)
		if want.ns == "" && have.ns == "default" {
			have.ns = ""
		}
		if want == have {
			right++
		} else if k := want.verb + " -> " + have.verb; differ[k] == 0 {
			differ[k]++
			t.Logf("typed %s: told %s", c.Command, got)
		} else {
			differ[k]++
		}
	}
	rate := float64(right) / float64(max(asked, 1))
	t.Logf("%d of %d commands told as typed (%.1f %%), %d more have several main requests and %d none; %v", right, asked, 100*rate, several-none, none, differ)
	if asked < 300 || rate < 0.93 {
		t.Errorf("only %d of %d", right, asked)
	}
}
