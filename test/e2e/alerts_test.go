package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"whodunit/test/e2e/cluster"
)

type alerting struct {
	*testing.T
	w      *server
	c      *cluster.Cluster
	p      *posts
	tool   string
	http   string // amtool's file
	tokens string // file with a token
}

// TestAlerts: what people do with a real cluster becomes alerts that are grouped, routed, silenced and repeated by a standard
// alertmanager.yml; amtool works; nothing is forgotten over kill -9; no secret is shown.
func TestAlerts(t *testing.T) {
	bin := cluster.BinaryFor(t)
	a := &alerting{T: t, p: newPosts(t), tool: amtool(t)}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("alertmanager.yml", fmt.Sprintf(alertmanagerYML, a.p.URL))
	write("templates/title.tmpl", `{{ define "e2e.title" }}{{ .CommonLabels.user }} <https://wiki.example.com|runbook>{{ end }}`)
	write("rules/e2e.yaml", alertRules)
	write("rules/tutorial.json", fmt.Sprintf(tutorialAlert, a.p.URL))
	a.p.answer("/refuses/topsecretfour", http.StatusTooManyRequests)
	a.w = newServer(t, setup{webhook: true, rules: []string{filepath.Join(dir, "rules")}, more: func(cfg map[string]any) {
		cfg["rules"].(map[string]any)["default_pack"] = false
		cfg["rules"].(map[string]any)["parseable_compat"] = "strict"
		cfg["alerts"] = map[string]any{
			"alertmanager_config": filepath.Join(dir, "alertmanager.yml"), "resolve_after": "20s", "external_url": "https://whodunit.example.com",
			"receivers":     []any{map[string]any{"name": "pager", "kind": "file", "path": filepath.Join(dir, "pager.jsonl")}},
			"falcosidekick": []any{map[string]any{"url": a.p.URL + "/falcosidekick"}},
			"elasticsearch": []any{map[string]any{"url": a.p.URL + "/elastic", "index_prefix": "alerts"}},
			"files":         []any{map[string]any{"path": filepath.Join(dir, "findings.jsonl"), "query": "rule:e2e-secret-read"}},
		}
	}})
	a.c = cluster.For(t, cluster.Config{Binary: bin, Webhook: a.w.hook(cluster.Batch)})
	a.http = filepath.Join(dir, "amtool.yml")
	a.w.kill()
	a.w.reader = a.token()
	a.configureActions()
	a.w.start()
	a.tokens = filepath.Join(dir, "token")
	write("token", a.w.reader)
	write("amtool.yml", fmt.Sprintf("authorization: {credentials: %s}\ntls_config: {ca_file: %s}\n", a.w.reader, filepath.Join(a.w.dir, "tls", "ca.crt")))

	a.kubectl(cluster.Admin, "create", "secret", "generic", "db", "-n", "team-a", "--from-literal=password=example")
	a.kubectl(cluster.Admin, "create", "configmap", "settings", "-n", "team-a")
	a.kubectl(cluster.Dave, "get", "secret", "db", "-n", "team-a")
	a.kubectl(cluster.Dave, "get", "configmap", "settings", "-n", "team-a")
	a.kubectl(cluster.Admin, "get", "nodes", "--as=<!channel> & <http://evil.example.com|friend>", "--as-group=system:masters")
	a.firing()
	a.chat()
	a.others(dir)
	a.acted()
	a.amtool()
	a.restart()
	a.parseable()
	a.silent()
	a.secrets()
}

func (a *alerting) kubectl(user string, args ...string) {
	a.Helper()
	if r := a.c.Kubectl(a.Context(), user, args...); r.Err != nil {
		a.Fatalf("kubectl %v: %v %s", args, r.Err, r.Stderr)
	}
}

// token is one that may read and silence. The server does not run.
func (a *alerting) token() string {
	a.Helper()
	out, err := a.w.run(a.Context(), "token", "--name", "e2e", "--scope", "read,operate")
	if err != nil {
		a.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// configureActions lets the server, which does not run, act in the cluster with what act rbac prints, and nothing more.
func (a *alerting) configureActions() {
	a.Helper()
	b, err := os.ReadFile(a.w.config)
	if err != nil {
		a.Fatal(err)
	}
	cfg := map[string]any{}
	if err := yaml.Unmarshal(b, &cfg); err != nil {
		a.Fatal(err)
	}
	settings := map[string]any{"enabled": true, "clusters": []any{map[string]any{"name": clusterName}}, "list": []any{map[string]any{
		"name": "mark", "kind": "label", "dry_run": false, "namespaces": []any{"team-a"}, "resources": []any{"configmaps"}, "set": []any{"e2e=marked"}, "cooldown": "1s"}}}
	cfg["actions"] = settings
	write := func() {
		b, err := yaml.Marshal(cfg)
		if err == nil {
			err = os.WriteFile(a.w.config, b, 0o600)
		}
		if err != nil {
			a.Fatal(err)
		}
	}
	write()
	a.kubectl(cluster.Admin, "create", "namespace", "whodunit")
	cmd := exec.CommandContext(a.Context(), a.w.binary, "act", "rbac", "--config", a.w.config)
	roles, err := cmd.Output()
	if err != nil {
		a.Fatal(err)
	}
	if r := a.c.KubectlWith(a.Context(), cluster.KubectlOptions{User: cluster.Admin, Stdin: string(roles)}, "apply", "-f", "-"); r.Err != nil {
		a.Fatalf("%v %s\n%s", r.Err, r.Stderr, roles)
	}
	account, err := a.c.LoginServiceAccount(a.Context(), "whodunit", "whodunit")
	if err != nil {
		a.Fatal(err)
	}
	settings["clusters"] = []any{map[string]any{"name": clusterName, "kubeconfig": a.c.Kubeconfig(account)}}
	write()
}

// acted: what the rule asks for was done, once, and our own request set off nothing, while that of a person does.
func (a *alerting) acted() {
	outcome := func(want int) func(context.Context) error {
		return func(ctx context.Context) error {
			found, err := a.w.findings(ctx, "rule:whodunit-action-mark")
			if err == nil && len(found) != want {
				err = fmt.Errorf("%d outcomes, want %d: %+v", len(found), want, found)
			}
			return err
		}
	}
	eventually(a.T, soonLimit, "the config map is marked", outcome(1))
	label := func() string {
		return a.c.Kubectl(a.Context(), cluster.Admin, "get", "configmap", "settings", "-n", "team-a", "-o", "jsonpath={.metadata.labels.e2e}").Stdout
	}
	if got := label(); got != "marked" {
		a.Errorf("the label is %q", got)
	}
	a.kubectl(cluster.Admin, "label", "configmap", "settings", "-n", "team-a", "e2e=changed", "--overwrite")
	eventually(a.T, soonLimit, "it is marked again", outcome(2))
	found, err := a.w.findings(a.Context(), "rule:e2e-marked")
	if err != nil || len(found) != 1 || found[0].User.Username != cluster.Admin || label() != "marked" {
		a.Errorf("of two patches of ours and one of a person, the rule found %+v, %v; the label is %q", found, err, label())
	}
	if err := a.w.counted(a.Context(), "whodunit_detect_own_events_total"); err != nil {
		a.Error(err)
	}
}

// notification is Alertmanager's webhook body, as far as it is looked at here.
type notification struct {
	Status, Receiver string
	Alerts           []struct {
		Status              string
		Labels, Annotations map[string]string
	}
}

func (a *alerting) notifications(path string) (out []notification) {
	a.Helper()
	for _, body := range a.p.at(path) {
		var n notification
		if err := json.Unmarshal([]byte(body), &n); err != nil {
			a.Fatalf("%v: %s", err, body)
		}
		out = append(out, n)
	}
	return out
}

// firing: the pager has one alert with all that a person wants to know, and the receivers that hang and refuse hinder nobody.
func (a *alerting) firing() {
	eventually(a.T, soonLimit, "the pager is called", func(context.Context) error {
		if len(a.p.at("/pager")) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	n := a.notifications("/pager")[0]
	if n.Status != "firing" || len(n.Alerts) != 1 {
		a.Fatalf("%+v", n)
	}
	for k, want := range map[string]string{"alertname": "e2e: secret read", "severity": "high", "cluster": clusterName, "rule": "e2e-secret-read",
		"user": cluster.Dave, "namespace": "team-a", "resource": "secrets"} {
		if got := n.Alerts[0].Labels[k]; got != want {
			a.Errorf("label %s is %q, want %q", k, got, want)
		}
	}
	for k, want := range map[string]string{"summary": cluster.Dave + " read db", "runbook": "https://wiki.example.com/secrets", "link": "https://whodunit.example.com/",
		"command": "kubectl", "first_event": "", "last_event": "", "count": "1"} {
		if got, ok := n.Alerts[0].Annotations[k]; !ok || !strings.Contains(got, want) {
			a.Errorf("annotation %s is %q, want %q in it", k, got, want)
		}
	}
	eventually(a.T, soonLimit, "the failing receivers are seen to fail", func(ctx context.Context) error {
		text, err := a.w.get(ctx, "/metrics")
		if err == nil && (len(a.p.at("/hangs")) == 0 || len(a.p.at("/refuses/topsecretfour")) < 2 || !strings.Contains(text, `receiver="broken"`)) {
			err = errors.New("they are not")
		}
		return err
	})
}

// chat: hostile text reaches Slack escaped, the template's own markup does not.
func (a *alerting) chat() {
	eventually(a.T, soonLimit, "Slack has it", func(context.Context) error {
		text := strings.Join(a.p.at("/topsecretthree/slack"), "\n")
		text = strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(text)
		switch {
		case text == "":
			return errors.New("it has nothing")
		case strings.Contains(text, "<!channel>") || strings.Contains(text, "<http://evil") || !strings.Contains(text, "&lt;!channel&gt; &amp; "):
			a.Fatalf("not escaped: %s", text)
		case !strings.Contains(text, "<https://wiki.example.com|runbook>"):
			a.Fatalf("the template is escaped: %s", text)
		}
		return nil
	})
}

// others: the receivers beyond Alertmanager's.
func (a *alerting) others(dir string) {
	eventually(a.T, soonLimit, "the other receivers have it", func(context.Context) error {
		for name, want := range map[string]string{"pager.jsonl": `"e2e: secret read"`, "findings.jsonl": `"rule":"e2e-secret-read"`} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil && !bytes.Contains(b, []byte(want)) {
				err = fmt.Errorf("%s has %.300q", name, b)
			}
			if err != nil {
				return err
			}
		}
		falco := strings.Join(a.p.at("/falcosidekick/"), "\n") + strings.Join(a.p.at("/falcosidekick"), "\n")
		if !strings.Contains(falco, `"source":"k8s_audit"`) || !strings.Contains(falco, `"e2e: secret read"`) {
			return fmt.Errorf("falcosidekick has %.300q", falco)
		}
		bulk := strings.Join(a.p.at("/elastic/_bulk"), "\n")
		if !strings.Contains(bulk, time.Now().UTC().Format(`"alerts-2006.01.02"`)) {
			return fmt.Errorf("elasticsearch has %.300q", bulk)
		}
		return nil
	})
}

func (a *alerting) inhibited() {
	a.Helper()
	for _, body := range a.p.at("/team") {
		if strings.Contains(body, "config read") {
			a.Errorf("an inhibited alert was sent: %s", body)
		}
	}
}

// whodunit asks the server. Exit codes are looked at by the scripts of internal/cli.
func (a *alerting) whodunit(args ...string) string {
	a.Helper()
	cmd := exec.CommandContext(a.Context(), a.w.binary, append(args, "--server", "https://"+a.w.api.Address(), "--token-file", a.tokens, "--ca-file", filepath.Join(a.w.dir, "tls", "ca.crt"))...)
	cmd.Env = []string{"HOME=" + a.TempDir()}
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.Errorf("whodunit %v: %v", args, err)
	}
	return string(out)
}

func (a *alerting) am(args ...string) string {
	a.Helper()
	cmd := exec.CommandContext(a.Context(), a.tool, append(args, "--alertmanager.url=https://"+a.w.api.Address(), "--http.config.file="+a.http)...)
	cmd.Env = []string{"HOME=" + a.TempDir()}
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.Fatalf("amtool %v: %v: %s", args, err, out)
	}
	return string(out)
}

// amtool: Alertmanager's own tool lists alerts and sets silences, and so does ours.
func (a *alerting) amtool() {
	if out := a.am("alert", "query", "-o", "extended"); !strings.Contains(out, "e2e: secret read") || strings.Contains(out, "config read") {
		a.Errorf("alerts that are not inhibited:\n%s", out)
	}
	if out := a.am("alert", "query", "--inhibited", "-o", "extended"); !strings.Contains(out, "e2e: config read") {
		a.Errorf("the alert on the config map is not inhibited:\n%s", out)
	}
	a.inhibited()
	a.am("silence", "add", "user="+cluster.Alice, "--comment=maintenance", "--author=e2e", "--duration=2h")
	if out := a.whodunit("alerts", "list"); !strings.Contains(out, "e2e: secret read") {
		a.Errorf("whodunit alerts list:\n%s", out)
	}
	if out := a.whodunit("alerts", "test", "e2e-impersonation"); !strings.Contains(out, "chat") || !strings.Contains(out, "slack") {
		a.Errorf("whodunit alerts test:\n%s", out)
	}
}

// restart: silences and what was told are known after kill -9. Nobody is told twice.
func (a *alerting) restart() {
	before := len(a.p.at("/pager"))
	eventually(a.T, soonLimit, "silence and notification are on disk", func(context.Context) error {
		for name, want := range map[string]string{"silences": "maintenance", "nflog": "pager"} {
			if b, err := os.ReadFile(filepath.Join(a.w.dir, "alerts", name)); err != nil || !bytes.Contains(b, []byte(want)) {
				return fmt.Errorf("%s: %w, %d bytes", name, err, len(b))
			}
		}
		return nil
	})
	a.w.kill()
	a.w.start()
	if out := a.am("silence", "query"); !strings.Contains(out, "maintenance") {
		a.Errorf("the silence is gone:\n%s", out)
	}
	a.kubectl(cluster.Alice, "get", "secret", "db", "-n", "team-a") // is silenced
	eventually(a.T, soonLimit, "alice's alert is there, and silenced", func(context.Context) error {
		if out := a.am("alert", "query", "--silenced", "-o", "extended"); !strings.Contains(out, cluster.Alice) {
			return fmt.Errorf("silenced alerts:\n%s", out)
		}
		return nil
	})
	a.inhibited()
	for _, n := range a.notifications("/pager")[before:] {
		for _, x := range n.Alerts {
			if x.Labels["user"] == cluster.Alice {
				a.Errorf("a silenced alert was sent: %+v", x)
			}
		}
		if n.Status == "firing" {
			a.Errorf("told twice: %+v", n)
		}
	}
}

// parseable: the tutorial's alert makes its 1 + 5 posts, the last of them after a restart.
func (a *alerting) parseable() {
	triggered := func() (n int) {
		for _, body := range a.p.at("/parseable") {
			if strings.HasPrefix(body, "Unauthorised access triggered on "+clusterName+"\nMessage: secret was accessed by an unauthorised user\n") {
				n++
			}
		}
		return n
	}
	eventually(a.T, 2*soonLimit, "Parseable's target has 1 + 5 messages", func(context.Context) error {
		if n := triggered(); n < 6 {
			return fmt.Errorf("%d messages", n)
		}
		return nil
	})
}

// silent: when nothing more is found, the alert resolves.
func (a *alerting) silent() {
	eventually(a.T, soonLimit, "the pager hears that it is over", func(context.Context) error {
		all := a.notifications("/pager")
		if last := all[len(all)-1]; last.Status != "resolved" {
			return fmt.Errorf("its last call is %+v; the alerts are\n%s", last, a.whodunit("alerts", "list", "--all", "-o", "json"))
		}
		return nil
	})
}

// secrets of the configuration are shown nowhere.
func (a *alerting) secrets() {
	shown, err := os.ReadFile(a.w.log())
	if err != nil {
		a.Fatal(err)
	}
	for _, path := range []string{"/api/v2/status", "/api/v2/receivers", "/api/v1/receivers", "/api/v1/status", "/metrics", "/api/v2/alerts"} {
		text, err := a.w.get(a.Context(), path)
		if err != nil {
			a.Error(err)
		}
		shown = append(shown, text...)
	}
	if !bytes.Contains(shown, []byte("pager")) {
		a.Error("the status does not show the configuration")
	}
	for _, s := range []string{"topsecretone", "topsecrettwo", "topsecretthree", "topsecretfour"} {
		if i := bytes.Index(shown, []byte(s)); i >= 0 {
			a.Errorf("%s is shown: %s", s, shown[max(0, i-300):min(len(shown), i+50)])
		}
	}
}
