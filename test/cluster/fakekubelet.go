package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
)

const (
	kubeletVersion   = "v1.36.3"
	kubeletUserAgent = "kubelet/" + kubeletVersion + " (linux/amd64) kubernetes/0000000"
	leaseEvery       = 10 * time.Second // the real kubelet's
	statusEveryLease = 6                // node status once in so many leases
)

// runFakeKubelet is one process for any number of nodes: it registers them, renews their leases, posts node and pod
// status, asks for service-account tokens, writes pod events, completes pods that do not restart, removes terminating
// pods, and serves logs, exec, attach and port-forward on one loopback port. It starts no containers.
func runFakeKubelet(args []string) int {
	nodes := map[string]string{}
	fs := flag.NewFlagSet("fakekubelet", flag.ExitOnError)
	fs.Func("node", "NAME=KUBECONFIG, once for each node", func(s string) error {
		name, file, ok := strings.Cut(s, "=")
		if !ok || name == "" || file == "" {
			return errors.New("want NAME=KUBECONFIG")
		}
		nodes[name] = file
		return nil
	})
	address := fs.String("address", "127.0.0.1", "of this machine: where the kubelets of all nodes listen; the API server proxies to no loopback address")
	cert := fs.String("cert", "", "server certificate, valid for the address")
	key := fs.String("key", "", "its key")
	_ = fs.Parse(args) // ExitOnError
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", "fakekubelet")
	if err := serveNodes(ctx, log, nodes, *address, *cert, *key); err != nil {
		log.Error("ended", "err", err)
		return 1
	}
	return 0
}

func serveNodes(ctx context.Context, log *slog.Logger, nodes map[string]string, address, cert, key string) error {
	if len(nodes) == 0 {
		return errors.New("no --node")
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	port := int32(ln.Addr().(*net.TCPAddr).Port)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := serveKubelet(ctx, ln, cert, key); err != nil {
			cancel(err)
		}
	})
	for name, file := range nodes {
		cfg, err := clientcmd.BuildConfigFromFlags("", file)
		if err != nil {
			cancel(fmt.Errorf("cannot read kubeconfig of node %s: %w", name, err))
			break
		}
		cfg.UserAgent = kubeletUserAgent
		cfg.QPS, cfg.Burst = 50, 100
		c, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			cancel(fmt.Errorf("cannot make client of node %s: %w", name, err))
			break
		}
		n := &node{name: name, address: address, port: port, api: c, log: log.With("node", name)}
		wg.Go(func() { n.beat(ctx) })
		wg.Go(func() { newPods(n).run(ctx) })
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// node is one registered node.
type node struct {
	name    string
	address string
	port    int32
	api     kubernetes.Interface
	log     *slog.Logger
}

// beat registers the node and keeps it alive until ctx is done.
func (n *node) beat(ctx context.Context) {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	n.warn("register", n.register(ctx))
	for i := 0; ; i++ {
		n.warn("renew lease", n.renewLease(ctx))
		if i%statusEveryLease == 0 {
			err := n.postStatus(ctx)
			if apierrors.IsNotFound(err) { // somebody deleted the node: a kubelet comes back
				err = n.register(ctx)
			}
			n.warn("post status", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *node) warn(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		n.log.Warn("cannot "+what, "err", err)
	}
}

func (n *node) register(ctx context.Context) error {
	_, err := n.api.CoreV1().Nodes().Create(ctx, &v1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: n.name,
			Labels: map[string]string{
				"kubernetes.io/hostname": n.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
				"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
			},
			Annotations: map[string]string{"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
		},
		Status: n.status(),
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (n *node) postStatus(ctx context.Context) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": n.status().Conditions}})
	if err != nil {
		return err
	}
	_, err = n.api.CoreV1().Nodes().Patch(ctx, n.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

func (n *node) renewLease(ctx context.Context) error {
	leases := n.api.CoordinationV1().Leases(v1.NamespaceNodeLease)
	now := metav1.NowMicro()
	l, err := leases.Get(ctx, n.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: n.name},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &n.name, LeaseDurationSeconds: ptr.To[int32](40), RenewTime: &now},
		}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	l.Spec.RenewTime = &now
	_, err = leases.Update(ctx, l, metav1.UpdateOptions{})
	return err
}

func (n *node) status() v1.NodeStatus {
	now := metav1.Now()
	condition := func(t v1.NodeConditionType, s v1.ConditionStatus, reason, message string) v1.NodeCondition {
		return v1.NodeCondition{Type: t, Status: s, Reason: reason, Message: message, LastHeartbeatTime: now, LastTransitionTime: now}
	}
	capacity := v1.ResourceList{
		v1.ResourceCPU: resource.MustParse("64"), v1.ResourceMemory: resource.MustParse("256Gi"),
		v1.ResourcePods: resource.MustParse("5000"), v1.ResourceEphemeralStorage: resource.MustParse("500Gi"),
	}
	return v1.NodeStatus{
		Capacity: capacity, Allocatable: capacity,
		Addresses: []v1.NodeAddress{
			{Type: v1.NodeInternalIP, Address: n.address}, {Type: v1.NodeHostName, Address: n.name}},
		DaemonEndpoints: v1.NodeDaemonEndpoints{KubeletEndpoint: v1.DaemonEndpoint{Port: n.port}},
		NodeInfo: v1.NodeSystemInfo{
			KubeletVersion: kubeletVersion, OperatingSystem: "linux", Architecture: "amd64", OSImage: "Fake Linux",
			KernelVersion: "6.1.0-fake", ContainerRuntimeVersion: "containerd://2.1.0"},
		Conditions: []v1.NodeCondition{
			condition(v1.NodeMemoryPressure, v1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
			condition(v1.NodeDiskPressure, v1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
			condition(v1.NodePIDPressure, v1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
			condition(v1.NodeReady, v1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"),
		},
		Images: []v1.ContainerImage{{Names: []string{"registry.example.test/web:1.4.2"}, SizeBytes: 100e6}},
	}
}
