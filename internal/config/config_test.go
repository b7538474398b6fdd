package config

import (
	"bytes"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"unknown field", "journal:\n  retenton: {age: 7d}\n", "w.yaml:2:3: journal.retenton: unknown field; did you mean retention?"},
		{"dash for underscore", "data-dir: /x\n", "w.yaml:1:1: data-dir: unknown field; did you mean data_dir?"},
		{"far from any", "rules:\n  zzzzzz: 1\n", "w.yaml:2:3: rules.zzzzzz: unknown field; known here: default_pack, falco_compat, falco_matching, lateness, parseable_compat, paths, websocket_verbs"},
		{"wrong type", "server: 8443\n", `w.yaml:1:9: server: a group of fields is wanted, not the number "8443"`},
		{"number for text", "webhook: {cluster: 12}\n", `w.yaml:1:20: webhook.cluster: text is wanted, not the number "12": put it in quotes`},
		{"yes for true", "stdin: yes\n", `w.yaml:1:8: stdin: true or false is wanted, not the text "yes"`},
		{"text for list", "rules: {paths: /etc}\n", "w.yaml:1:16: rules.paths: a list is wanted, not the text \"/etc\": write […] or one `- …` a line"},
		{"duration", "server: {session_ttl: 12}\n", `w.yaml:1:23: server.session_ttl: "12" is no duration: write a number and a unit (ms, s, m, h, d, w), such as 90s, 1h30m or 7d`},
		{"duration range", "server: {session_ttl: 2s}\n", "w.yaml:1:23: server.session_ttl: 2s is out of range: 1m to 90d is wanted"},
		{"size", "journal: {max_size: 5 gigs}\n", `w.yaml:1:21: journal.max_size: "5 gigs" is no size: write a number and a unit (B, KB, MB, GB, TB, KiB, MiB, GiB, TiB), such as 512MB or 1GiB`},
		{"word", "log: {level: loud}\n", `w.yaml:1:14: log.level: "loud" is not allowed: one of debug, info, warn, error is wanted`},
		{"int range", "journal: {dedup_events: -1}\n", "w.yaml:1:25: journal.dedup_events: -1 is out of range: 0 to 100000000 is wanted"},
		{"float for int", "journal: {dedup_events: 1.5}\n", `w.yaml:1:25: journal.dedup_events: a whole number is wanted, not the number "1.5"`},
		{"twice", "stdin: true\nstdin: true\n", "w.yaml:2:1: stdin: given a second time; the first is on line 1"},
		{"anchor", "rules: &r {default_pack: true}\n", "w.yaml:1:8: rules: anchors and aliases are not supported: write the value out"},
		{"two documents", "stdin: true\n---\nstdin: false\n", "w.yaml:2:1: a second document begins here: only one is read"},
		{"list entry", "files:\n  - paths: [/a]\n    start: middle\n", `w.yaml:3:12: files[0].start: "middle" is not allowed: one of beginning, end is wanted`},
		{"missing in entry", "files:\n  - cluster: a\n", "w.yaml:2:5: files[0].paths: at least one file name is wanted"},
		{"address", "server: {listen: localhost}\n", `w.yaml:1:18: server.listen: "localhost" is no address: host:port is wanted, such as 127.0.0.1:8443`},
		{"off and open", "server: {listen: ':80', tls: {mode: off}}\n", "w.yaml:1:37: server.tls.mode: off is allowed on a loopback address only, and :80 is none: passwords and tokens would cross the network readable"},
		{"files without cert", "server:\n  tls:\n    mode: files\n    key_file: k\n", "w.yaml:3:5: server.tls.cert_file: wanted with mode files"},
		{"cluster", "webhook: {cluster: 'a/b'}\n", `w.yaml:1:20: webhook.cluster: "a/b" is no cluster name: letters, digits and - . _ are wanted`},
		{"environment", "alerts:\n  webhooks:\n  - url: https://h/x\n    token_file: ${NOPE}/t\n", "w.yaml:4:17: alerts.webhooks[0].token_file: the environment variable NOPE is not set"},
		{"both alertmanagers", "alerts: {alertmanager_url: 'http://a', alertmanager_config: /x, receivers: [{kind: stdout}]}\n",
			"w.yaml:1:28: alerts.alertmanager_url: not used together with alertmanager_config: routing is the other Alertmanager's then\n" +
				"w.yaml:1:76: alerts.receivers: not used together with alertmanager_url: receivers are the other Alertmanager's then"},
		{"alertmanager's address", "alerts:\n  alertmanager_url: [http://a, b:9093]\n", "w.yaml:2:32: alerts.alertmanager_url[1]: a URL that begins with https:// or http:// is wanted"},
		{"external url", "alerts: {external_url: whodunit}\n", "w.yaml:1:24: alerts.external_url: a URL that begins with https:// or http:// is wanted"},
		{"receiver", "alerts: {receivers: [{url: 'ftp://a'}, {kind: file}, {kind: stdout, name: ''}]}\n",
			"w.yaml:1:28: alerts.receivers[0].url: a URL that begins with https:// or http:// is wanted\n" +
				"w.yaml:1:40: alerts.receivers[1].path: a file name is wanted\nw.yaml:1:75: alerts.receivers[2].name: the name of a receiver is wanted"},
		{"index", "alerts: {elasticsearch: [{url: 'http://a', index_prefix: 'A*'}]}\n",
			`w.yaml:1:58: alerts.elasticsearch[0].index_prefix: "A*" is no beginning of an index name: lower case letters, digits and - _ . are wanted`},
		{"actions without a cluster", "actions: {enabled: true}\n", "w.yaml:1:10: actions.clusters: at least one cluster is wanted: {name: default} is the one that whodunit runs in"},
		{"action", "actions: {list: [{name: a, kind: label}, {name: a, kind: webhook}, {name: B, kind: annotate, set: [x]}, {name: c, kind: reboot}]}\n",
			"w.yaml:1:121: actions.list[3].kind: \"reboot\" is not allowed: one of label, annotate, delete_pod, evict, scale_to_zero, cordon, delete_binding, revert_binding, revoke_token, quarantine, event, webhook is wanted\n" +
				"w.yaml:1:18: actions.list[0].set: at least one name=value is wanted\n" +
				"w.yaml:1:49: actions.list[1].name: \"a\" is given a second time\nw.yaml:1:42: actions.list[1].url: a URL that begins with https:// or http:// is wanted\n" +
				"w.yaml:1:75: actions.list[2].name: \"B\" is no name: lower case letters, digits and dashes are wanted, at most 63\n" +
				"w.yaml:1:100: actions.list[2].set[0]: \"x\": name=value is wanted"},
		{"syntax", "server: [\n", "w.yaml:1:1: did not find expected node content"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("w.yaml", []byte(c.file), env("HOME", "/h"))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(c.want, err.Error()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	_, err := Parse("w.yaml", []byte("stdin: 1\nlog: {level: x, format: y}\nnope: 1\njournal: {max_size: -3}\n"), env())
	if n := len(strings.Split(err.Error(), "\n")); n != 5 {
		t.Errorf("%d errors, want 5:\n%v", n, err)
	}
}

func TestParse(t *testing.T) {
	in := `
data_dir: /data
webhook: {max_body: 10MB, cluster: prod, listen: ":9443"}
files:
- paths: [/var/log/audit*.log]
journal:
  retention: {age: 2w, size: 1.5GiB}
alerts:
  log:
  webhooks: [{url: "https://user:pw@hooks.example.com/T0/secret", token_file: "${DIR}/t", min_severity: high}]
rules: {paths: ["${DIR}"]}
`
	got, err := Parse("w.yaml", []byte(in), env("HOME", "/h", "DIR", "/run"))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults(env("HOME", "/h"))
	want.DataDir = "/data"
	want.Webhook.MaxBody, want.Webhook.Cluster, want.Webhook.Listen = 10e6, "prod", ":9443"
	want.Files = []File{{Paths: []string{"/var/log/audit*.log"}, Cluster: "default", Start: "beginning"}}
	want.Journal.Retention = Retention{Age: Duration(14 * 24 * time.Hour), Size: 3 << 29}
	want.Alerts.Webhooks = []AlertWebhook{{URL: "https://user:pw@hooks.example.com/T0/secret", TokenFile: "/run/t", Timeout: Duration(10 * time.Second), MinSeverity: "high", Silenced: true}}
	want.Rules.Paths = []string{"${DIR}"} // not a secret's file: as it stands
	if diff := cmp.Diff(want, got, cmp.Transformer("fields", func(w AlertWebhook) struct{ AlertWebhook2 } { return struct{ AlertWebhook2 }{AlertWebhook2(w)} })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", got, "webhook", got.Alerts.Webhooks[0])
	for _, s := range []string{got.String(), log.String(), Diff(defaults(env()), got)[0].New} {
		if strings.Contains(s, "T0/") || strings.Contains(s, "pw@") {
			t.Errorf("a secret is shown: %s", s)
		}
	}
	again, err := Parse("again", []byte(got.String()), env())
	if err != nil {
		t.Fatalf("String cannot be read back: %v\n%s", err, got)
	}
	if again.Journal != got.Journal || again.Webhook != got.Webhook {
		t.Errorf("String reads back as %v", again)
	}
}

// AlertWebhook2 has no String method, so that cmp looks into it.
type AlertWebhook2 AlertWebhook

func TestDataDir(t *testing.T) {
	for _, c := range []struct {
		env  func(string) string
		file string
		want string
	}{
		{env("HOME", "/h"), "", "/h/.local/share/whodunit"},
		{env("HOME", "/h", "XDG_DATA_HOME", "/x"), "", "/x/whodunit"},
		{env("HOME", "/h", "XDG_DATA_HOME", "rel"), "", "/h/.local/share/whodunit"},
		{env("HOME", "/h", "WHODUNIT_DATA", "/w"), "", "/w"},
		{env("HOME", "/h", "WHODUNIT_DATA", "/w"), "data_dir: /f", "/w"},
		{env("HOME", "/h"), "data_dir: /f", "/f"},
		{env("HOME", "/h"), "data_dir:", "/h/.local/share/whodunit"},
	} {
		got, err := Parse("", []byte(c.file), c.env)
		if err != nil || got.DataDir != c.want {
			t.Errorf("%q: %s, %v; want %s", c.file, got.DataDir, err, c.want)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Setenv("WHODUNIT_DATA", "/w")
	if c, err := Load(""); err != nil || c.DataDir != "/w" {
		t.Errorf("%v, %v", c, err)
	}
	path := filepath.Join(t.TempDir(), "c.yaml")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "cannot read configuration") {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("stdin: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(path); err != nil || !c.Stdin {
		t.Errorf("%v, %v", c, err)
	}
}

func TestDiff(t *testing.T) {
	a := defaults(env("HOME", "/h"))
	b := a
	b.Log.Level, b.Server.Listen, b.Journal.Retention.Age = "debug", "127.0.0.1:1", Duration(time.Hour)
	b.Rules.Paths = []string{"/r"}
	b.Files = []File{} // as good as none
	want := []Change{
		{"server.listen", `"127.0.0.1:8443"`, `"127.0.0.1:1"`, true},
		{"journal.retention.age", "0", "1h", false},
		{"rules.paths", "[]", "[/r]", false},
		{"log.level", "info", "debug", false},
	}
	if diff := cmp.Diff(want, Diff(a, b)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReadSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	os.WriteFile(path, []byte(" s3cret\n"), 0o600)
	if s, err := ReadSecret(path); s != "s3cret" || err != nil {
		t.Errorf("%q, %v", s, err)
	}
	os.WriteFile(path, []byte("\n"), 0o600)
	if _, err := ReadSecret(path); err == nil {
		t.Error("an empty secret is taken")
	}
}

func TestUnitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := Duration(rapid.Int64Range(0, math.MaxInt64/2000).Draw(t, "micros") * 1000)
		if got, err := ParseDuration(d.String()); err != nil || got != d {
			t.Fatalf("%s is %s, %v", d, got, err)
		}
		n := Size(rapid.Int64Range(0, math.MaxInt64).Draw(t, "size"))
		if got, err := ParseSize(n.String()); err != nil || got != n {
			t.Fatalf("%s is %s, %v", n, got, err)
		}
	})
	for in, want := range map[string]Duration{"7d": Duration(7 * 24 * time.Hour), "2w": Duration(14 * 24 * time.Hour), "1.5h": Duration(90 * time.Minute), "1d12h": Duration(36 * time.Hour), "300ms": Duration(300 * time.Millisecond)} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "d", "1", "1y", "-1s", "1s ", "999999999999w", "1.2.3s", "9999999d9999999d9999999d"} {
		if d, err := ParseDuration(bad); err == nil {
			t.Errorf("duration %q is %v", bad, d)
		}
	}
	for _, bad := range []string{"", "GB", "5", "-1GB", "1XB", "99999999PiB", "1e3MB"} {
		if n, err := ParseSize(bad); err == nil {
			t.Errorf("size %q is %v", bad, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("journal: {retention: {age: 7d}}\nfiles: [{paths: [a]}]\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? [x]\n: y\n"))
	f.Add([]byte("alerts: {webhooks: [{url: 'https://a:b@c/d'}]}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data, env("HOME", "/h"))
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("Parse took what Validate refuses: %v", err)
		}
		if len(c.Alerts.Webhooks) > 0 || strings.Contains(string(data), "_file") {
			return // shown without secrets, so not to be read back
		}
		if again, err := Parse("g", []byte(c.String()), env("HOME", "/h")); err != nil || len(Diff(c, again)) > 0 {
			t.Errorf("String does not read back: %v\n%s", err, c)
		}
	})
}
