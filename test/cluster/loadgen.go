package main

import (
	"context"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// loadConfig is what the flags say.
type loadConfig struct {
	kubeconfig, tokenFile, userPrefix string
	namespaces, workers               int
	duration                          time.Duration
	maxOps                            int64
	writes                            float64 // share of writing calls, 0 to 1
	rate                              float64 // calls a second over all workers, 0 = as fast as it goes
	setup                             bool
	only, editRole                    string
}

// runLoadgen makes mixed calls as many users over many namespaces, and prints rates and latencies.
func runLoadgen(args []string) int {
	var cfg loadConfig
	fs := flag.NewFlagSet("loadgen", flag.ExitOnError)
	fs.StringVar(&cfg.kubeconfig, "kubeconfig", "", "kubeconfig of an administrator")
	fs.StringVar(&cfg.tokenFile, "token-file", "", "the API server's token file")
	fs.StringVar(&cfg.userPrefix, "user-prefix", "load-", "make the calls as the users of the token file whose names begin with this")
	fs.IntVar(&cfg.namespaces, "namespaces", 40, "number of namespaces, load-00 and on")
	fs.IntVar(&cfg.workers, "workers", 16, "calls in flight")
	fs.DurationVar(&cfg.duration, "duration", time.Minute, "how long")
	fs.Int64Var(&cfg.maxOps, "max-ops", 0, "stop after so many calls, 0 = no limit")
	fs.Float64Var(&cfg.writes, "write", 0.6, "share of writing calls")
	fs.Float64Var(&cfg.rate, "rate", 0, "calls a second, 0 = as fast as it goes")
	fs.BoolVar(&cfg.setup, "setup", true, "make the namespaces and role bindings first")
	fs.StringVar(&cfg.only, "only", "", "one kind of call only, e.g. get-cm")
	fs.StringVar(&cfg.editRole, "edit-role", "edit", "cluster role of group load-edit (edit is empty until kube-controller-manager aggregated it)")
	_ = fs.Parse(args) // ExitOnError
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := generate(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		return 1
	}
	return 0
}

// generate sets the cluster up, runs the workers and prints the summary.
func generate(ctx context.Context, cfg loadConfig, out io.Writer) error {
	ops, err := chooseOps(cfg.only, cfg.writes)
	if err != nil {
		return err
	}
	base, err := clientcmd.BuildConfigFromFlags("", cfg.kubeconfig)
	if err != nil {
		return fmt.Errorf("cannot read kubeconfig: %w", err)
	}
	base.QPS = -1
	if cfg.setup {
		admin, err := kubernetes.NewForConfig(base)
		if err != nil {
			return fmt.Errorf("cannot make client: %w", err)
		}
		if err := setUp(ctx, admin, cfg); err != nil {
			return err
		}
	}
	clients, err := loadClients(base, cfg.tokenFile, cfg.userPrefix)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.duration)
	defer cancel()
	st := newLoadStats(out)
	var wg sync.WaitGroup
	calls := paced(ctx, &wg, cfg)
	for w := range cfg.workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7919))
			for range calls {
				o := ops.pick(r)
				c := call{api: clients[r.IntN(len(clients))], ns: loadNamespace(r.IntN(cfg.namespaces)), name: fmt.Sprintf("obj-%d", r.IntN(12)), r: r}
				start := time.Now()
				err := o.do(ctx, c)
				if ctx.Err() == nil {
					st.add(o.name, time.Since(start), err)
				}
			}
		})
	}
	progress, stopProgress := context.WithCancel(ctx)
	var reporter sync.WaitGroup
	reporter.Go(func() { st.report(progress) })
	wg.Wait()
	stopProgress()
	reporter.Wait()
	st.summary()
	return nil
}

// paced hands out one token a call, at the wanted rate, until ctx is done or the number of calls is reached.
func paced(ctx context.Context, wg *sync.WaitGroup, cfg loadConfig) <-chan struct{} {
	calls := make(chan struct{})
	wg.Go(func() {
		defer close(calls)
		start := time.Now()
		for n := int64(0); cfg.maxOps == 0 || n < cfg.maxOps; n++ {
			if cfg.rate > 0 {
				due := start.Add(time.Duration(float64(n) / cfg.rate * float64(time.Second)))
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Until(due)):
				}
			}
			select {
			case <-ctx.Done():
				return
			case calls <- struct{}{}:
			}
		}
	})
	return calls
}

func loadNamespace(i int) string { return fmt.Sprintf("load-%02d", i) }

func setUp(ctx context.Context, admin kubernetes.Interface, cfg loadConfig) error {
	made := func(what string, err error) error {
		if err == nil || apierrors.IsAlreadyExists(err) {
			return nil
		}
		return fmt.Errorf("cannot create %s: %w", what, err)
	}
	for i := range cfg.namespaces {
		ns := loadNamespace(i)
		_, err := admin.CoreV1().Namespaces().Create(ctx, &v1.Namespace{
			ObjectMeta: metav1.ObjectMeta{Name: ns, Labels: map[string]string{"team": fmt.Sprint(i % 7)}}}, metav1.CreateOptions{})
		if err := made("namespace", err); err != nil {
			return err
		}
		// Without kube-controller-manager there is no default account, and creating a pod then waits 1.5 s and is refused.
		_, err = admin.CoreV1().ServiceAccounts(ns).Create(ctx, &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
		if err := made("service account", err); err != nil {
			return err
		}
	}
	for group, role := range map[string]string{"load-edit": cfg.editRole, "load-view": "view"} {
		_, err := admin.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: group},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: group}},
		}, metav1.CreateOptions{})
		if err := made("role binding", err); err != nil {
			return err
		}
	}
	return nil
}

// loadClients makes one client for each user of the token file whose name begins with prefix.
func loadClients(base *rest.Config, tokenFile, prefix string) ([]kubernetes.Interface, error) {
	f, err := os.Open(tokenFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read token file: %w", err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.FieldsPerRecord = -1
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("cannot read token file: %w", err)
	}
	agents := loadAgents()
	var clients []kubernetes.Interface
	for _, row := range rows {
		if len(row) < 3 || !strings.HasPrefix(row[1], prefix) {
			continue
		}
		c := rest.CopyConfig(base)
		c.BearerToken, c.BearerTokenFile, c.UserAgent = row[0], "", agents[len(clients)%len(agents)]
		api, err := kubernetes.NewForConfig(c)
		if err != nil {
			return nil, fmt.Errorf("cannot make client of %s: %w", row[1], err)
		}
		clients = append(clients, api)
	}
	if len(clients) == 0 {
		return nil, errors.New("the token file has no users whose names begin with " + prefix)
	}
	return clients, nil
}

func loadAgents() []string {
	return []string{
		"kubectl/v1.36.3 (linux/amd64) kubernetes/0000000", "kubectl/v1.33.1 (darwin/arm64) kubernetes/8adc0f0",
		"argocd-application-controller/v3.1.0", "Terraform/1.12 terraform-provider-kubernetes/2.38", "Helm/3.18.4",
		"OpenAPI-Generator/33.1.0/python", "k9s/0.50.9 (linux/amd64)", "my-operator/v0.3.1 (linux/amd64) kubernetes/$Format",
	}
}
