// Package config is whodunit's configuration: one strict, typed YAML file, defaults that need none, and the difference
// between two of them for a reload. The doc comments of the fields below are the reference: docs/reference/config.md and
// docs/reference/whodunit.yaml are generated from them and the field tags by this package's test (go test -update). Those of alerts and
// actions are in alerts.go.
//
// Tags: yaml (the name in the file), oneof (allowed words), min and max (of a number, duration or size), unit, example
// (shown commented out where there is no default), reload:"live" (a reload takes it over; everything else needs a restart),
// secret:"url" (shown as scheme and host only).
package config

import (
	"os"
	"path/filepath"
	"time"
)

// Config is the whole configuration. It is a value: load it, read it, replace it; it is never changed in place.
type Config struct {
	// The directory that holds the journal, the users and tokens, and the generated certificates. It must be on a local disk, and
	// only one process may use it at a time. The environment variable WHODUNIT_DATA wins over the file. Default:
	// $XDG_DATA_HOME/whodunit, or ~/.local/share/whodunit.
	DataDir string `yaml:"data_dir" example:"/var/lib/whodunit"`

	// The address that people and the command line talk to: web page, API and metrics.
	Server Server `yaml:"server"`

	// The address that API servers send their audit events to.
	Webhook Webhook `yaml:"webhook"`

	// Audit logs to follow, as kube-apiserver's --audit-log-path writes them, rotated or not. Compressed files are read too.
	Files []File `yaml:"files"`

	// Read events from standard input, one a line, until it ends.
	Stdin bool `yaml:"stdin"`

	// Where events are kept, and for how long.
	Journal Journal `yaml:"journal"`

	// What to detect.
	Rules Rules `yaml:"rules"`

	// Whom to tell about findings.
	Alerts Alerts `yaml:"alerts"`

	// What to do about findings in Kubernetes itself. Nothing, unless it is said here.
	Actions Actions `yaml:"actions"`

	// The process's own log, on standard error.
	Log Log `yaml:"log"`
}

// Server is the address for people.
type Server struct {
	// Host and port. An address that others can reach needs tls.mode generated or files.
	Listen string `yaml:"listen" check:"address"`

	// The certificate of this address.
	TLS TLS `yaml:"tls"`

	// How long a login lasts. Sessions are held in memory: a restart ends them all.
	SessionTTL Duration `yaml:"session_ttl" min:"1m" max:"90d"`

	// Ask for a token with the scope read at /metrics too.
	MetricsAuth bool `yaml:"metrics_auth"`
}

// TLS says which certificate an address shows.
type TLS struct {
	// generated: an own authority in data_dir/tls, whose ca.crt clients trust. files: cert_file and key_file, read again when
	// they change. off: plain HTTP, allowed on a loopback address only.
	Mode string `yaml:"mode" oneof:"generated files off"`

	// The certificate chain in PEM, server's own first.
	CertFile string `yaml:"cert_file" example:"/etc/whodunit/tls.crt"`

	// The private key in PEM.
	KeyFile string `yaml:"key_file" example:"/etc/whodunit/tls.key"`
}

// Webhook is the address for API servers.
type Webhook struct {
	// Host and port.
	Listen string `yaml:"listen" check:"address"`

	// Take events in by webhook.
	Enabled bool `yaml:"enabled"`

	// The name of the cluster whose events arrive at /. Events sent to /clusters/NAME are of that cluster instead.
	Cluster string `yaml:"cluster" check:"cluster"`

	// The certificate of this address.
	TLS WebhookTLS `yaml:"tls"`

	// The largest request body accepted, after decompression too. kube-apiserver's batches are below 10 MiB unless its
	// --audit-webhook-truncate flags say otherwise.
	MaxBody Size `yaml:"max_body" min:"1MiB" max:"1GiB"`

	// The bytes of request bodies held in memory at once. Requests beyond it are answered 429, and the API server sends
	// them again.
	MaxInFlight Size `yaml:"max_in_flight" min:"1MiB" max:"64GiB"`
}

// WebhookTLS is TLS with client certificates.
type WebhookTLS struct {
	// As in server.tls.
	Mode string `yaml:"mode" oneof:"generated files off"`

	// As in server.tls.
	CertFile string `yaml:"cert_file" example:"/etc/whodunit/webhook.crt"`

	// As in server.tls.
	KeyFile string `yaml:"key_file" example:"/etc/whodunit/webhook.key"`

	// Authorities in PEM whose client certificates are accepted in place of a token.
	ClientCAFile string `yaml:"client_ca_file" example:"/etc/whodunit/apiserver-ca.crt"`
}

// File is a set of audit logs to follow.
type File struct {
	// File names; * ? [a-z] match within one directory, as in a shell.
	Paths []string `yaml:"paths" example:"[/var/log/kubernetes/audit/*.log]"`

	// The cluster that the events are of.
	Cluster string `yaml:"cluster" example:"prod" check:"cluster"`

	// Where to begin in a file that was never read before.
	Start string `yaml:"start" oneof:"beginning end" example:"beginning"`
}

// Journal keeps the events.
type Journal struct {
	// Raw bytes of events that make one Parquet segment. Twice as much is held in memory while events come in fast.
	SegmentSize Size `yaml:"segment_size" min:"1MiB" max:"1GiB"`

	// Seal what has come in after this time even if segment_size is not reached.
	SealAfter Duration `yaml:"seal_after" min:"1s" max:"7d"`

	// What is deleted, oldest first. Where a reader (the detector, a receiver of alerts) has not had it yet, that is logged as an error
	// and counted.
	Retention Retention `yaml:"retention" reload:"live"`

	// The journal takes no more events at this size, and the sources wait. 0: no limit.
	MaxSize Size `yaml:"max_size" reload:"live" min:"0" max:"1PiB"`

	// The journal takes no more events when less than this is free on its disk.
	MinFree Size `yaml:"min_free" reload:"live" min:"0" max:"1PiB"`

	// How many of the last events are remembered in memory to drop those that come twice, 60 bytes each. Older ones are looked up
	// in the segments, so this is about speed, not about what is dropped.
	DedupEvents int `yaml:"dedup_events" min:"0" max:"100000000"`
}

// Retention says what is deleted. Both zero: nothing is.
type Retention struct {
	// Delete events older than this. 0: never.
	Age Duration `yaml:"age" min:"0" max:"36500d"`

	// Delete the oldest events when the journal is larger than this on disk. 0: never.
	Size Size `yaml:"size" min:"0" max:"1PiB"`
}

// Rules says what to detect.
type Rules struct {
	// Directories or files of rules: see rules.md.
	Paths []string `yaml:"paths" reload:"live" example:"[/etc/whodunit/rules]"`

	// Load the rules that come with whodunit.
	DefaultPack bool `yaml:"default_pack" reload:"live"`

	// How Falco rules read fields that Falco's own plugin gets wrong: see rules-falco.md.
	FalcoCompat string `yaml:"falco_compat" oneof:"corrected upstream" reload:"live"`

	// Of the Falco rules that an event satisfies, report all, or the first as Falco does.
	FalcoMatching string `yaml:"falco_matching" oneof:"all first"`

	// How alerts of Parseable's files behave that repeat: strict as in Parseable, message by message; default: one alert while it lasts.
	ParseableCompat string `yaml:"parseable_compat" oneof:"default strict"`

	// How much later than a newer event an event may come and still count in rules about several events. Their findings come as much later.
	Lateness Duration `yaml:"lateness" min:"1s" max:"1h"`

	// Sigma rules that ask for create on exec, attach and portforward mean get as well, which kubectl sends since 1.30.
	WebsocketVerbs bool `yaml:"websocket_verbs" reload:"live"`
}

// Log is the process's own log.
type Log struct {
	// The least severe messages to write.
	Level string `yaml:"level" oneof:"debug info warn error" reload:"live"`

	// text for people, json for machines.
	Format string `yaml:"format" oneof:"text json"`
}

// Default is the configuration without a file. It reads the environment variables WHODUNIT_DATA, XDG_DATA_HOME and HOME.
func Default() Config { return defaults(os.Getenv) }

func defaults(getenv func(string) string) Config {
	return Config{
		DataDir: dataDir(getenv),
		Server: Server{
			Listen: "127.0.0.1:8443", TLS: TLS{Mode: "generated"}, SessionTTL: Duration(12 * time.Hour), MetricsAuth: true,
		},
		Webhook: Webhook{
			Listen: "127.0.0.1:9443", Enabled: true, Cluster: "default", TLS: WebhookTLS{Mode: "generated"},
			MaxBody: 64 << 20, MaxInFlight: 256 << 20,
		},
		Journal: Journal{
			SegmentSize: 32 << 20, SealAfter: Duration(time.Minute), MinFree: 256 << 20, DedupEvents: 300_000,
		},
		Rules: Rules{DefaultPack: true, FalcoCompat: "corrected", FalcoMatching: "all", ParseableCompat: "default", Lateness: Duration(time.Minute), WebsocketVerbs: true},
		Alerts: Alerts{Log: true, LogMinSeverity: "medium", MinSeverity: "medium", ResolveAfter: Duration(5 * time.Minute), MaxAge: Duration(24 * time.Hour),
			AlertmanagerHTTP: defaultHTTP()},
		Actions: Actions{Namespace: "whodunit"},
		Log:     Log{Level: "info", Format: "text"},
	}
}

// Elements of lists have defaults of their own, which the decoder starts from.
func (File) defaults() File { return File{Cluster: "default", Start: "beginning"} }

func dataDir(getenv func(string) string) string {
	if d := getenv("WHODUNIT_DATA"); d != "" {
		return d
	}
	if d := getenv("XDG_DATA_HOME"); filepath.IsAbs(d) { // the XDG specification says to ignore relative ones
		return filepath.Join(d, "whodunit")
	}
	if d := getenv("HOME"); d != "" {
		return filepath.Join(d, ".local", "share", "whodunit")
	}
	return "whodunit-data"
}
