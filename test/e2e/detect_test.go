package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"whodunit/test/e2e/cluster"
)

// Rules of every format in one folder, good ones beside broken ones, find what people do with kubectl, once each, though whodunit is
// killed in the middle of it, while correlations wait, and afterwards; a scan of the API server's own log finds the same. It takes
// more than a minute because correlations wait that long for late events.
func TestDetection(t *testing.T) {
	bin := cluster.BinaryFor(t)
	rules := filepath.Join(t.TempDir(), "rules")
	if err := os.CopyFS(rules, os.DirFS(filepath.Join("testdata", "rules"))); err != nil {
		t.Fatal(err)
	}
	in := newInbox(t)
	w := newServer(t, setup{webhook: true, rules: []string{rules}, alerts: in.URL})
	c := cluster.For(t, cluster.Config{Binary: bin, Nodes: []string{"node-1"}, Webhook: w.hook(cluster.Batch)})
	d := &detection{t: t, w: w, c: c, rules: rules, in: in}

	d.begin()
	w.kill()
	w.reader = d.readToken()
	w.start()
	d.listed()
	d.reload()
	d.end()
	logged := d.logged()
	w.kill()
	w.start()

	scanned := d.scan(logged)
	d.expected(scanned)
	eventually(t, soonLimit, "the server has found what a scan of the log finds", func(ctx context.Context) error {
		found, err := w.findings(ctx, "*")
		if err != nil {
			return err
		}
		return covers(found, scanned)
	})
	w.kill() // what was found stays found, and is not found again
	w.start()
	d.finds("live-3-again", "third")
	found, err := w.findings(t.Context(), "*")
	if err != nil {
		t.Fatal(err)
	}
	once(t, found)
	noMore(t, found, scanned, logged)
	d.overAPI(found)
	d.told(found)
}

// detection is a story that rules are about, and what is wanted to ask how it went.
type detection struct {
	t     *testing.T
	w     *server
	c     *cluster.Cluster
	rules string // the folder that the server reads
	in    *inbox
	hung  func() // ends the port-forward
}

func (d *detection) kubectl(user string, args ...string) {
	d.t.Helper()
	if r := d.c.Kubectl(d.t.Context(), user, args...); r.Err != nil {
		d.t.Fatal(r.Err)
	}
}

// refused asks for things that a user may not have, one request each.
func (d *detection) refused(user, resources string) {
	d.t.Helper()
	r := d.c.Kubectl(d.t.Context(), user, "get", resources, "-n", "dev")
	if n := strings.Count(r.Stderr, "(Forbidden)"); r.Err == nil || n != 1+strings.Count(resources, ",") {
		d.t.Fatalf("%d requests of %s were refused: %s", n, user, r.Stderr)
	}
}

// begin is the story until the first crash, in which a port-forward is open and a sequence and a count are half way.
func (d *detection) begin() {
	d.t.Helper()
	d.kubectl(cluster.Alice, "create", "deployment", "web", "--image=registry.example.test/web:1", "-n", "team-a")
	d.kubectl(cluster.Bob, "wait", "--for=condition=Available", "--timeout=90s", "deployment/web", "-n", "team-a")
	ctx, cancel := context.WithCancel(d.t.Context())
	wait := background(d.t, func(context.Context) {
		d.c.Kubectl(ctx, cluster.Bob, "port-forward", "deployment/web", ":80", "-n", "team-a")
	})
	d.hung = func() { cancel(); wait() }
	d.kubectl(cluster.Bob, "exec", "deploy/web", "-n", "team-a", "--", "sh", "-c", "id; env")
	d.kubectl(cluster.Carol, "create", "rolebinding", "viewers", "--clusterrole=view", "--user="+cluster.Eve, "-n", "team-a")
	d.forwards("ResponseStarted")
	d.refused(cluster.Mallory, "pods,services,configmaps")
	d.refused(cluster.Eve, "pods,services,configmaps,secrets,endpoints,serviceaccounts")
}

// forwards waits until the port-forward is at a stage.
func (d *detection) forwards(stage string) {
	d.t.Helper()
	eventually(d.t, soonLimit, "the port-forward is at "+stage, func(context.Context) error {
		logged, err := d.c.AuditLog()
		if err == nil && !slices.ContainsFunc(logged, func(l cluster.Logged) bool { return l.ObjectRef.Subresource == "portforward" && l.Stage == stage }) {
			err = errors.New("it is not")
		}
		return err
	})
}

func (d *detection) end() {
	d.t.Helper()
	d.refused(cluster.Mallory, "secrets,endpoints,serviceaccounts")
	d.kubectl(cluster.Carol, "set", "image", "deployment/web", "web=registry.example.test/web:2", "-n", "team-a")
	d.kubectl(cluster.Admin, "create", "secret", "generic", "e2e-db", "-n", "team-a", "--from-literal=password=example")
	d.kubectl(cluster.Dave, "get", "secret", "e2e-db", "-n", "team-a")
	d.kubectl(cluster.Dave, "get", "secret", "e2e-db", "-n", "team-a")
	d.kubectl(cluster.Dave, "get", "secrets", "-n", "team-a")
	d.kubectl(cluster.Dave, "get", "secrets", "-A")
	d.kubectl(cluster.Bob, "run", "miner", "--image=registry.example.test.evil.example.net/miner:1", "-n", "team-a")
	d.hung()
	d.forwards("ResponseComplete")
}

// readToken makes a token for the API while no server runs.
func (d *detection) readToken() string {
	d.t.Helper()
	out, err := d.w.run(d.t.Context(), "token", "--name", "e2e", "--scope", "read")
	if err != nil {
		d.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// ruleTitles are the rules in force, by id.
func (d *detection) ruleTitles(ctx context.Context) (titles map[string]string, formats map[string]int, err error) {
	text, err := d.w.get(ctx, "/api/v1/rules")
	if err != nil {
		return nil, nil, err
	}
	var list struct {
		Items []struct{ ID, Title, Format string }
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return nil, nil, err
	}
	titles, formats = map[string]string{}, map[string]int{}
	for _, r := range list.Items {
		titles[r.ID] = r.Title
		formats[r.Format]++
	}
	return titles, formats, nil
}

// listed: the log names each broken rule with its place, and the others are in force.
func (d *detection) listed() {
	d.t.Helper()
	log, err := os.ReadFile(d.w.log())
	if err != nil {
		d.t.Fatal(err)
	}
	for _, place := range []string{"falco.yaml:3:14: rule falco.e2e-broken-falco: ", "labels.yaml:4:19: rule e2e-broken-label: ", "native.yaml:2:21: rule e2e-broken-native: ",
		"parseable.json:3:44: rule E2E broken parseable: ", "sigma.yml:6:22: rule e2e-broken-sigma: "} {
		if n := strings.Count(string(log), "broken/"+place); n != 2 {
			d.t.Errorf("%d of two starts named the problem in broken/%s", n, place)
		}
	}
	titles, formats, err := d.ruleTitles(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	for format, least := range map[string]int{"native": 50, "falco": 3, "sigma": 3, "parseable": 2, "label": 2} {
		if formats[format] < least {
			d.t.Errorf("%d rules of format %s are listed", formats[format], format)
		}
	}
	for id := range titles {
		if strings.Contains(id, "broken") && id != "falco.e2e-good-beside-a-broken-one" {
			d.t.Errorf("broken rule %s is listed", id)
		}
	}
	if titles["falco.e2e-good-beside-a-broken-one"] == "" {
		d.t.Error("a good rule went down with a broken one of its file")
	}
}

// wants waits until a rule with an id and a title is in force.
func (d *detection) wants(id, title string) {
	d.t.Helper()
	eventually(d.t, soonLimit, id+" is "+title, func(ctx context.Context) error {
		titles, _, err := d.ruleTitles(ctx)
		if err == nil && titles[id] != title {
			err = fmt.Errorf("it is %q", titles[id])
		}
		return err
	})
}

// says waits until the server's log has a text.
func (d *detection) says(text string) {
	d.t.Helper()
	eventually(d.t, soonLimit, "the log says "+text, func(context.Context) error {
		b, err := os.ReadFile(d.w.log())
		if err == nil && !bytes.Contains(b, []byte(text)) {
			err = errors.New("it does not")
		}
		return err
	})
}

func (d *detection) write(name, text string) {
	d.t.Helper()
	// As editors and ConfigMaps do it: never half a file.
	file := filepath.Join(d.rules, name)
	if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		d.t.Fatal(err)
	}
}

// finds makes a config map and waits for the finding about it.
func (d *detection) finds(name, message string) {
	d.t.Helper()
	d.kubectl(cluster.Alice, "create", "configmap", name, "-n", "team-a")
	eventually(d.t, soonLimit, message+" about "+name, func(ctx context.Context) error {
		found, err := d.w.findings(ctx, "rule:e2e-live and name:"+name)
		if err == nil && (len(found) != 1 || found[0].Message != message+" "+name) {
			err = fmt.Errorf("found %v", found)
		}
		return err
	})
}

// reload: rules that are written while the server runs come into force, and what is broken leaves those in force that were.
func (d *detection) reload() {
	d.t.Helper()
	live := func(title, name string) string {
		return fmt.Sprintf("id: e2e-live\ntitle: %s\ncondition: objectRef.resource == \"configmaps\" && verb == \"create\" && glob(objectRef.name, %q)\nmessage: \"%[1]s {objectRef.name}\"\n", title, name)
	}
	d.write("live.yaml", live("first", "live-1*"))
	d.wants("e2e-live", "first")
	d.finds("live-1", "first")
	d.write("live.yaml", live("second", "live-2*"))
	d.wants("e2e-live", "second")
	d.finds("live-2", "second")
	d.write("live.yaml", "id: e2e-live\ncondition: verb ==\n")
	d.says("live.yaml:2:")
	good, err := os.ReadFile(filepath.Join(d.rules, "falco.yaml"))
	if err != nil {
		d.t.Fatal(err)
	}
	// The sequence's second step is a rule of this file: it must not lose its first step over this.
	d.write("falco.yaml", strings.Replace(string(good), "ka.stage=", "ka.stag=", 1))
	d.says(`unknown field \"ka.stag\"`)
	d.wants("falco.e2e-terminal", "E2E terminal")
	d.finds("live-2-again", "second")
	d.write("falco.yaml", string(good))
	d.write("live.yaml", live("third", "live-3*"))
	d.wants("e2e-live", "third")
	d.finds("live-3", "third")
	if found, err := d.w.findings(d.t.Context(), "rule:e2e-live"); err != nil || len(found) != 4 {
		d.t.Errorf("%d findings of four about config maps: %v", len(found), err)
	}
}
