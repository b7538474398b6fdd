package config

import "time"

// Alerts says whom to tell.
type Alerts struct {
	// Write each finding to the log.
	Log bool `yaml:"log" reload:"live"`

	// Write only findings of at least this severity to the log. The others are found by searching: there are many of them on a healthy cluster.
	LogMinSeverity string `yaml:"log_min_severity" oneof:"info low medium high critical" reload:"live"`

	// Make alerts of findings of at least this severity: see alerts.md.
	MinSeverity string `yaml:"min_severity" oneof:"info low medium high critical" reload:"live"`

	// An alert is over when its rule has found nothing more for it for this long.
	ResolveAfter Duration `yaml:"resolve_after" min:"10s" max:"7d"`

	// Findings about events that are older than this when they are found make no alert and do not go to Falcosidekick: old logs that are
	// imported wake nobody up. 0: all do. (Actions have a limit of their own, of minutes.)
	MaxAge Duration `yaml:"max_age" min:"0" max:"36500d"`

	// Where people reach this server: the links in alerts begin with it. Without it they begin with the address that it listens on.
	ExternalURL string `yaml:"external_url" check:"url" example:"https://whodunit.example.com"`

	// A configuration of Prometheus' Alertmanager, as it stands: routes, receivers, inhibition, time intervals, templates. Without it all
	// alerts go to the receiver named default. It is read again at a reload.
	AlertmanagerConfig string `yaml:"alertmanager_config" reload:"live" example:"/etc/whodunit/alertmanager.yml"`

	// Send the alerts to these Alertmanagers instead, all of them, as Prometheus does: give each instance of a cluster. The configuration
	// above, silences and receivers are theirs then.
	AlertmanagerURL URLs `yaml:"alertmanager_url" secret:"url" example:"[https://alertmanager-0.example.com:9093, https://alertmanager-1.example.com:9093]"`

	// How to talk to the servers of alertmanager_url.
	AlertmanagerHTTP HTTP `yaml:"alertmanager_http"`

	// Receivers of alerts of kinds that Alertmanager does not have. Each is one more integration of the receiver of its name.
	Receivers []AlertReceiver `yaml:"receivers" reload:"live"`

	// Send each finding by HTTP POST, without grouping.
	Webhooks []AlertWebhook `yaml:"webhooks" reload:"live"`

	// Send each finding to Falcosidekick, as Falco would.
	Falcosidekick []Falcosidekick `yaml:"falcosidekick" reload:"live"`

	// Write each finding as a document to Elasticsearch or OpenSearch, into an index a day.
	Elasticsearch []AlertIndex `yaml:"elasticsearch" reload:"live"`

	// Write each finding as a line of JSON to a file.
	Files []AlertFile `yaml:"files" reload:"live"`
}

// URLs are one or several addresses.
type URLs []string

// HTTP is how to talk to a server.
type HTTP struct {
	// Give up one request after this time.
	Timeout Duration `yaml:"timeout" min:"100ms" max:"5m" example:"10s"`

	// A file with a bearer token, read again for each request. ${NAME} is replaced by the environment variable.
	TokenFile string `yaml:"token_file" example:"${CREDENTIALS_DIRECTORY}/token"`

	// What the token is sent as: ApiKey is Elasticsearch's.
	TokenScheme string `yaml:"token_scheme" oneof:"Bearer ApiKey"`

	// The user of basic authentication.
	Username string `yaml:"username" example:"whodunit"`

	// A file with that user's password, read again for each request. ${NAME} as above.
	PasswordFile string `yaml:"password_file" example:"${CREDENTIALS_DIRECTORY}/password"`

	// Authorities in PEM to trust instead of the system's.
	CAFile string `yaml:"ca_file" example:"/etc/whodunit/ca.crt"`

	// A client certificate in PEM.
	CertFile string `yaml:"cert_file" example:"/etc/whodunit/client.crt"`

	// Its key in PEM.
	KeyFile string `yaml:"key_file" example:"/etc/whodunit/client.key"`

	// Accept any certificate. For tests.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify" example:"false"`
}

// AlertReceiver is an integration of a receiver of alerts.
type AlertReceiver struct {
	// The receiver that it belongs to, as alertmanager_config names it.
	Name string `yaml:"name"`

	// webhook: a POST of plain JSON, signed if wanted. file: a line of JSON. stdout: the same on standard output.
	Kind string `yaml:"kind" oneof:"webhook file stdout"`

	// Where kind webhook sends to. It is treated as a secret: only scheme and host are ever shown.
	URL string `yaml:"url" secret:"url" example:"https://hooks.example.com/alerts"`

	// A file with the key for a signature over the body (HMAC-SHA256, header X-Whodunit-Signature), for kind webhook.
	HMACSecretFile string `yaml:"hmac_secret_file" example:"/etc/whodunit/alert-hmac"`

	// How kind webhook talks to its server.
	HTTP HTTP `yaml:"http"`

	// The file of kind file. Lines are appended; when it is renamed, a new one is begun.
	Path string `yaml:"path" example:"/var/log/whodunit/alerts.jsonl"`

	// Say too that an alert is over.
	SendResolved bool `yaml:"send_resolved"`
}

// AlertWebhook gets findings.
type AlertWebhook struct {
	// Where to POST. It is treated as a secret: only scheme and host are ever shown.
	URL string `yaml:"url" secret:"url" example:"https://hooks.example.com/services/T000/B000"`

	// A file with a bearer token, read again when it changes. ${NAME} is replaced by the environment variable.
	TokenFile string `yaml:"token_file" example:"${CREDENTIALS_DIRECTORY}/alert-token"`

	// A file with the key for a signature over the body (HMAC-SHA256, header X-Whodunit-Signature). ${NAME} as above.
	HMACSecretFile string `yaml:"hmac_secret_file" example:"/etc/whodunit/alert-hmac"`

	// Give up one attempt after this time.
	Timeout Duration `yaml:"timeout" min:"100ms" max:"5m" example:"10s"`

	// Accept any certificate. For tests.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify" example:"false"`

	// Send only findings of at least this severity.
	MinSeverity string `yaml:"min_severity" oneof:"info low medium high critical" example:"medium"`

	// Send only findings that this query finds, as in a search.
	Query string `yaml:"query" example:"'rule:secret-* and not user:ci-bot'"`

	// Send findings whose alert is silenced too.
	Silenced bool `yaml:"silenced"`
}

// Falcosidekick gets findings.
type Falcosidekick struct {
	// Its address. It is treated as a secret: only scheme and host are ever shown.
	URL string `yaml:"url" secret:"url" example:"http://falcosidekick.falco.svc:2801"`

	// How to talk to it.
	HTTP HTTP `yaml:"http"`

	// Send only findings of at least this severity.
	MinSeverity string `yaml:"min_severity" oneof:"info low medium high critical" example:"low"`

	// Send only findings that this query finds, as in a search.
	Query string `yaml:"query" example:"'priority:*'"`

	// Send findings whose alert is silenced too.
	Silenced bool `yaml:"silenced"`
}

// AlertIndex gets findings.
type AlertIndex struct {
	// The address of Elasticsearch or OpenSearch. It is treated as a secret: only scheme and host are ever shown.
	URL string `yaml:"url" secret:"url" example:"https://opensearch.example.com:9200"`

	// The indices are named PREFIX-YYYY.MM.DD, by the day of the event in UTC.
	IndexPrefix string `yaml:"index_prefix" example:"k8s-alerts"`

	// k8scop: K8sCop's documents. finding: the whole finding, with @timestamp.
	Form string `yaml:"form" oneof:"k8scop finding" example:"finding"`

	// How to talk to it.
	HTTP HTTP `yaml:"http"`

	// Write only findings of at least this severity.
	MinSeverity string `yaml:"min_severity" oneof:"info low medium high critical" example:"info"`

	// Write only findings that this query finds, as in a search.
	Query string `yaml:"query" example:"'format:label'"`

	// Write findings whose alert is silenced too.
	Silenced bool `yaml:"silenced"`
}

// AlertFile gets findings.
type AlertFile struct {
	// The file that lines are appended to; - is standard output. When it is renamed, a new one is begun.
	Path string `yaml:"path" example:"/var/log/whodunit/findings.jsonl"`

	// Write only findings of at least this severity.
	MinSeverity string `yaml:"min_severity" oneof:"info low medium high critical" example:"info"`

	// Write only findings that this query finds, as in a search.
	Query string `yaml:"query" example:"'severity:critical'"`

	// Write findings whose alert is silenced too.
	Silenced bool `yaml:"silenced"`
}

// Actions says what to do in Kubernetes about findings: see actions.md.
type Actions struct {
	// Do anything at all.
	Enabled bool `yaml:"enabled"`

	// The namespace that whodunit itself runs in. No action ever touches it, nor kube-system.
	Namespace string `yaml:"namespace" example:"whodunit"`

	// The clusters that actions may be done in. Findings of others set off none.
	Clusters []ActionCluster `yaml:"clusters"`

	// The actions.
	List []Action `yaml:"list"`
}

// ActionCluster is a cluster to act in.
type ActionCluster struct {
	// Its name, as its events carry it.
	Name string `yaml:"name" check:"cluster"`

	// How to reach its API server. Without it: the cluster that whodunit runs in, as its service account.
	Kubeconfig string `yaml:"kubeconfig" example:"/etc/whodunit/kubeconfig"`

	// The context of that file. Without it: its current one.
	Context string `yaml:"context" example:"prod"`
}

// Action is something to do about a finding.
type Action struct {
	// What rules call it, in their field actions.
	Name string `yaml:"name" example:"quarantine"`

	// What is done, to the object that the finding is about.
	Kind string `yaml:"kind" oneof:"label annotate delete_pod evict scale_to_zero cordon delete_binding revert_binding revoke_token quarantine event webhook"`

	// Ask the API server what would happen, and change nothing.
	DryRun bool `yaml:"dry_run"`

	// Rules that set it off besides those that name it: their ids, with * for any text.
	Rules []string `yaml:"rules" example:"[privileged-pod, k8scop-*]"`

	// Only findings of at least this severity set it off.
	MinSeverity string `yaml:"min_severity" oneof:"info low medium high critical" example:"high"`

	// The namespaces that it may act in, with * for any text. Empty: none.
	Namespaces []string `yaml:"namespaces" example:"[shop, team-*]"`

	// Namespaces that it never acts in, besides kube-system and whodunit's own.
	DenyNamespaces []string `yaml:"deny_namespaces" example:"[payments]"`

	// Act on objects without a namespace too: nodes, cluster role bindings.
	ClusterScoped bool `yaml:"cluster_scoped"`

	// At most so many in rate_per.
	Rate int `yaml:"rate" min:"1" max:"100000" example:"10"`

	// The time that rate is about.
	RatePer Duration `yaml:"rate_per" min:"1s" max:"7d" example:"1h"`

	// The same is not done to the same object again within this time.
	Cooldown Duration `yaml:"cooldown" min:"1s" max:"7d" example:"10m"`

	// Give up after this time. There is no second attempt.
	Timeout Duration `yaml:"timeout" min:"100ms" max:"5m" example:"10s"`

	// Labels or annotations to set, for the kinds label and annotate: name=value. {rule}, {user} and {finding} are filled in.
	Set []string `yaml:"set" example:"[whodunit.dev/suspect=true, 'whodunit.dev/rule={rule}']"`

	// What the kinds label and annotate may change, as resource or resource.group.
	Resources []string `yaml:"resources" example:"[pods, deployments.apps]"`

	// The roles that kind revert_binding may put back into a changed binding. The API server wants the right to bind them. Without any, only
	// new bindings are reverted.
	BindRoles []string `yaml:"bind_roles" example:"[ClusterRole/view, Role/deployer]"`

	// Where kind webhook sends to. It is treated as a secret: only scheme and host are ever shown.
	URL string `yaml:"url" secret:"url" example:"https://hooks.example.com/respond"`

	// A file with the key for a signature over the body, for kind webhook.
	HMACSecretFile string `yaml:"hmac_secret_file" example:"/etc/whodunit/action-hmac"`

	// A file with a bearer token, for kind webhook.
	TokenFile string `yaml:"token_file" example:"${CREDENTIALS_DIRECTORY}/action-token"`
}

func defaultHTTP() HTTP { return HTTP{Timeout: Duration(10 * time.Second), TokenScheme: "Bearer"} }

func (AlertReceiver) defaults() AlertReceiver {
	return AlertReceiver{Name: "default", Kind: "webhook", HTTP: defaultHTTP(), SendResolved: true}
}

func (AlertWebhook) defaults() AlertWebhook {
	return AlertWebhook{Timeout: Duration(10 * time.Second), MinSeverity: "info", Silenced: true}
}

func (Falcosidekick) defaults() Falcosidekick {
	return Falcosidekick{HTTP: defaultHTTP(), MinSeverity: "low"}
}

func (AlertIndex) defaults() AlertIndex {
	return AlertIndex{IndexPrefix: "whodunit-alerts", Form: "k8scop", HTTP: defaultHTTP(), MinSeverity: "info", Silenced: true}
}

func (AlertFile) defaults() AlertFile { return AlertFile{MinSeverity: "info", Silenced: true} }

func (ActionCluster) defaults() ActionCluster { return ActionCluster{Name: "default"} }

func (Action) defaults() Action {
	return Action{DryRun: true, Kind: "event", MinSeverity: "medium", Rate: 10, RatePer: Duration(time.Hour), Cooldown: Duration(10 * time.Minute),
		Timeout: Duration(10 * time.Second)}
}

// String is the scheme and host: the rest of the URL is a secret.
func (w AlertWebhook) String() string  { return hideURL(w.URL) }
func (r AlertReceiver) String() string { return r.Name + " " + r.Kind + " " + hideURL(r.URL) }
func (f Falcosidekick) String() string { return hideURL(f.URL) }
func (i AlertIndex) String() string    { return hideURL(i.URL) }
func (a Action) String() string        { return a.Name + " " + a.Kind }
