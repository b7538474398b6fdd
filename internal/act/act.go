package act

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
	"whodunit/internal/audit"
	"whodunit/internal/finding"
)

// Kind is what an action does.
type Kind string

// The kinds of actions.
const (
	Label         Kind = "label"          // an object of Resources
	Annotate      Kind = "annotate"       // an object of Resources
	DeletePod     Kind = "delete_pod"     //
	Evict         Kind = "evict"          // a pod, as its disruption budget allows
	ScaleToZero   Kind = "scale_to_zero"  // a Deployment, StatefulSet or ReplicaSet, or the one that controls a pod
	Cordon        Kind = "cordon"         // a node, or the one that a pod is on
	DeleteBinding Kind = "delete_binding" // the role binding that the event made
	RevertBinding Kind = "revert_binding" // deletes what was made, or takes the subjects away that were not recorded before the change
	RevokeToken   Kind = "revoke_token"   // deletes the pod or secret that the requesting service account's token is bound to
	Quarantine    Kind = "quarantine"     // labels a pod that a NetworkPolicy then cuts off
	Event         Kind = "event"          // a core/v1 Event on the object
	Webhook       Kind = "webhook"        // POSTs the finding
)

// Rate allows N attempts in any time span of length Per.
type Rate struct {
	N   int
	Per time.Duration
}

// Action is one action of the configuration. Name, Kind, and Namespaces or ClusterScoped are wanted.
type Action struct {
	Name          string // a DNS label
	Kind          Kind
	Live          bool             // false: a dry run, the API server's own where there is a request to make
	Rules         []string         // ids of rules that set it off, beside those that name it; * stands for any text
	MinSeverity   finding.Severity // of the finding; "": any
	Namespaces    []string         // where it may act; * stands for any text. None: nowhere
	Deny          []string         // namespaces where it may not, of those; * as above
	ClusterScoped bool             // it may act on what has no namespace, and on nodes
	Rate          Rate             // 0: 10 attempts an hour
	Cooldown      time.Duration    // for which the same target is left alone after an attempt; 0: 10 minutes
	Timeout       time.Duration    // of one attempt; 0: 10 seconds
	// Resources are those that label and annotate may change, as "pods" or "deployments.apps"; none: pods.
	Resources []string
	// Labels and Annotations are set by label and annotate. In values {rule}, {user} and {finding} are replaced.
	Labels, Annotations map[string]string
	// BindRoles are the roles that revert_binding may write into a changed binding, as "ClusterRole/edit" or "Role/deployer". The API
	// server wants our account to have the verb bind on them. None: changed bindings cannot be reverted, new ones can.
	BindRoles []string
	Webhook   post.Config
	// SecretFile, or Secret where that is "", signs the webhook's body as post.HeaderSignature says.
	SecretFile, Secret string
}

// Cluster is where actions on a cluster's findings go: Config, or Kubeconfig and its Context, or where both are missing the service
// account of the pod that we run in.
type Cluster struct {
	Name                string // as in events
	Config              *rest.Config
	Kubeconfig, Context string
}

// Options are what an Actor needs. Actions, Dir and Emit are wanted.
type Options struct {
	Actions      []Action
	Clusters     []Cluster
	OwnNamespace string // where we run, "" outside a cluster; that of our service account counts too
	Dir          string // exists; for the log, the key, and our accounts' names. One Actor at a time uses it
	Version      string // for the user agent
	MaxAge       time.Duration
	// Emit makes outcomes durable, as findings. It may be given the same ones again, byte for byte.
	Emit func(ctx context.Context, b audit.Batch) error
	// Event is the whole event that evidence names, nil if the journal does not have it (any more).
	Event func(ctx context.Context, e finding.Evidence) (*audit.Event, error)
	// Before is the last earlier event about the same object that has a response body and is no DryRun, nil if there is none.
	Before func(ctx context.Context, ev *audit.Event) (*audit.Event, error)
	// Named is which actions a rule names.
	Named      func(rule string) []string
	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

const (
	defaultMaxAge   = 15 * time.Minute
	defaultCooldown = 10 * time.Minute
	defaultTimeout  = 10 * time.Second
)

// Actor carries out actions. It implements alert.Notifier; its errors are all retryable. Own is safe for concurrent use.
type Actor struct {
	o        Options
	actions  []*action
	clusters map[string]*client
	key      []byte
	known    atomic.Pointer[accounts]
	log      *logFile
	unknown  map[string]bool // actions that rules name and the configuration lacks, of which was told
	metrics  *metrics
}

// action is one of the configuration, checked.
type action struct {
	Action
	post *post.Client
}

var _ alert.Notifier = (*Actor)(nil)

// New checks the options, makes the clients without calling anybody, and reads the log. Close frees what it holds.
func New(o Options) (*Actor, error) {
	a := &Actor{o: o, clusters: map[string]*client{}, unknown: map[string]bool{}}
	if err := a.open(); err != nil {
		a.Close()
		return nil, fmt.Errorf("cannot make actions: %w", err)
	}
	return a, nil
}

func (a *Actor) open() error {
	o := &a.o
	if o.Dir == "" || o.Emit == nil {
		return errors.New("dir and emit are wanted")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Logger = o.Logger.With("component", "act")
	if o.MaxAge <= 0 {
		o.MaxAge = defaultMaxAge
	}
	if o.Event == nil {
		o.Event = func(context.Context, finding.Evidence) (*audit.Event, error) { return nil, nil }
	}
	if o.Before == nil {
		o.Before = func(context.Context, *audit.Event) (*audit.Event, error) { return nil, nil }
	}
	if o.Named == nil {
		o.Named = func(string) []string { return nil }
	}
	keep := 2 * o.MaxAge
	for i := range o.Actions {
		act, err := check(o.Actions[i])
		if err != nil {
			return fmt.Errorf("action %q: %w", o.Actions[i].Name, err)
		}
		if a.action(act.Name) != nil {
			return fmt.Errorf("action %q: there are two of this name", act.Name)
		}
		a.actions = append(a.actions, act)
		keep = max(keep, act.Rate.Per, act.Cooldown)
	}
	var err error
	if a.key, err = readKey(o.Dir); err != nil {
		return err
	}
	known, err := readAccounts(o.Dir)
	if err != nil {
		return err
	}
	a.known.Store(known)
	for _, c := range o.Clusters {
		if a.clusters[c.Name] != nil {
			return fmt.Errorf("cluster %q: there are two of this name", c.Name)
		}
		if a.clusters[c.Name], err = newClient(c, a.key, o.Version); err != nil {
			return fmt.Errorf("cluster %q: %w", c.Name, err)
		}
	}
	if a.log, err = openLog(o.Dir, keep, o.Now, o.Logger); err != nil {
		return err
	}
	a.metrics = newMetrics(o.Registerer)
	return nil
}

// Close closes the log and frees connections. Notify must not run any more.
func (a *Actor) Close() {
	for _, act := range a.actions {
		if act.post != nil {
			act.post.Close()
		}
	}
	for _, c := range a.clusters {
		if c != nil {
			c.close()
		}
	}
	if a.log != nil {
		a.log.close()
	}
}

func (a *Actor) action(name string) *action {
	for _, act := range a.actions {
		if act.Name == name {
			return act
		}
	}
	return nil
}
