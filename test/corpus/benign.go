package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"whodunit/test/e2e/cluster"
)

// crew are the actors of the benign story, each on its own.
type crew struct {
	p  *player
	wg sync.WaitGroup

	mu     sync.Mutex
	done   map[string]int
	failed map[string]int
}

// every runs do again and again until ctx ends. What fails is counted, told once, and tried again: a busy cluster has conflicts too.
func (c *crew) every(ctx context.Context, name string, pause time.Duration, do func(ctx context.Context, i int) error) {
	c.wg.Go(func() {
		for i := 0; ; i++ {
			err := do(ctx, i)
			if ctx.Err() != nil {
				return
			}
			c.count(name, err)
			if wait(ctx, pause) != nil {
				return
			}
		}
	})
}

func (c *crew) count(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[name]++
	if err == nil {
		return
	}
	if c.failed[name]++; c.failed[name] == 1 {
		c.p.tell("%s: %v", name, err)
	}
}

// benign plays an ordinary day of a healthy cluster: quick, but nothing in it is an attack.
func benign(ctx context.Context, p *player, length time.Duration) error {
	if err := p.setUp(ctx, "platform"); err != nil {
		return err
	}
	for _, d := range platformPods() {
		if err := p.kubectl(ctx, cluster.Admin, d, "apply -f -"); err != nil {
			return err
		}
	}
	cred, err := p.c.IssueClient(root, "kubeadm:cluster-admins")
	if err != nil {
		return err
	}
	if err := p.c.Connect(ctx, root, rootAddr, cred); err != nil {
		return err
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	c := &crew{p: p, done: map[string]int{}, failed: map[string]int{}}
	err = c.day(ctx, length)
	if err != nil {
		cancel()
	}
	c.wg.Wait()
	c.p.tell("%s: %v, failed: %v", time.Since(start).Round(time.Second), c.done, c.failed)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return err
}

// day starts the actors and does, one after another, what happens once.
func (c *crew) day(ctx context.Context, length time.Duration) error {
	if err := c.p.staticPods(ctx); err != nil {
		return err
	}
	if err := c.platform(ctx); err != nil {
		return err
	}
	c.people(ctx)
	for _, act := range []func(context.Context) error{c.certManager, c.ingress, c.join, c.maintain} {
		if err := wait(ctx, length/8); err != nil {
			return err
		}
		if err := act(ctx); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// platformPods are the programs of the platform.
func platformPods() []string {
	return []string{
		deployment("monitoring", "prometheus", "prometheus", "quay.io/prometheus/prometheus:v3.5.0", 1),
		deployment("monitoring", "kube-state-metrics", "kube-state-metrics", "registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.16.0", 1),
		deployment("kube-system", "metrics-server", "metrics-server", "registry.k8s.io/metrics-server/metrics-server:v0.8.0", 1),
		deployment("platform", "scaler", "scaler", "registry.example.test/platform/scaler:1.2.0", 1),
		deployment("platform", "installer", "installer", "registry.example.test/platform/installer:2.0.1", 1),
		deployment("ci", "runner", "deployer", "registry.example.test/ci/runner:17.4", 1),
	}
}

func deployment(ns, name, account, image string, replicas int) string {
	return fmt.Sprintf(`{apiVersion: apps/v1, kind: Deployment, metadata: {name: %[2]s, namespace: %[1]s, labels: {app: %[2]s}}, spec: {replicas: %[5]d, `+
		`selector: {matchLabels: {app: %[2]s}}, template: {metadata: {labels: {app: %[2]s}}, spec: {terminationGracePeriodSeconds: 1, serviceAccountName: %[3]s, `+
		`containers: [{name: %[2]s, image: %[4]q, resources: {requests: {cpu: 100m, memory: 128Mi}}}]}}}}`, ns, name, account, image, replicas)
}

// staticPods are those of the control plane, which cp-1's kubelet shows to the API server as mirror pods.
func (p *player) staticPods(ctx context.Context) error {
	uid := p.c.Kubectl(ctx, cluster.Admin, "get", "node", "cp-1", "-o", "jsonpath={.metadata.uid}")
	if uid.Err != nil {
		return uid.Err
	}
	kubelet := p.client("system:node:cp-1", kubeletAgent)
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		err := kubelet.do(ctx, http.MethodPost, "/api/v1/namespaces/kube-system/pods", object{
			"apiVersion": "v1", "kind": "Pod",
			"metadata": object{"name": name + "-cp-1", "namespace": "kube-system", "labels": object{"component": name, "tier": "control-plane"},
				"annotations": object{"kubernetes.io/config.hash": "0123456789abcdef", "kubernetes.io/config.mirror": "0123456789abcdef",
					"kubernetes.io/config.source": "file", "kubernetes.io/config.seen": time.Now().UTC().Format(time.RFC3339Nano)},
				"ownerReferences": []object{{"apiVersion": "v1", "kind": "Node", "name": "cp-1", "uid": uid.Stdout, "controller": true}}},
			"spec": object{"nodeName": "cp-1", "hostNetwork": true, "priorityClassName": "system-node-critical", "priority": 2000001000,
				"tolerations": []object{{"effect": "NoExecute", "operator": "Exists"}},
				"containers": []object{{"name": name, "image": "registry.k8s.io/" + name + ":v1.36.3", "command": []string{name},
					"volumeMounts": []object{{"name": "pki", "mountPath": "/etc/kubernetes/pki", "readOnly": true}}}},
				"volumes": []object{{"name": "pki", "hostPath": object{"path": "/etc/kubernetes/pki", "type": "DirectoryOrCreate"}}}},
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// people work with kubectl.
func (c *crew) people(ctx context.Context) {
	turns := func(who string, pause time.Duration, commands ...string) {
		c.every(ctx, who, pause, func(ctx context.Context, i int) error {
			line, text, _ := strings.Cut(commands[i%len(commands)], "\n")
			if text != "" {
				text = fmt.Sprintf(text, i)
			}
			return c.p.kubectl(ctx, who, text, strings.ReplaceAll(line, "%d", fmt.Sprint(i)))
		})
	}
	tool := "apply -n team-a -f -\n" + strings.Replace(deployment("team-a", "tool", "default", "registry.example.test/team-a/tool:0.VERSION", 2), "VERSION", "%d", 1)
	turns(bob, 6*time.Second, "get pods -n shop", "describe deployment web -n shop", "logs deploy/web -n shop --tail=20", tool, "rollout status deployment/tool -n team-a --timeout=30s",
		"get events -n shop --sort-by=.lastTimestamp", "get deploy,svc,ing,cm -n shop -o wide", "rollout history deployment/cart -n shop", "get pods -n team-a -w --request-timeout=5s")
	turns(alice, 7*time.Second, "get pods -n team-a -o wide", "set image deployment/tool -n team-a tool=registry.example.test/team-a/tool:1.%d", "describe pods -n team-a -l app=tool",
		"logs -n team-a -l app=tool --tail=5", "apply -n team-a -f -\n{apiVersion: v1, kind: ConfigMap, metadata: {name: tool}, data: {level: \"%d\"}}",
		"get deployments -n shop", "scale deployment/tool -n team-a --replicas=3", "explain deployment.spec.strategy", "delete pods -n team-a -l app=tool --wait=false", "get jobs -n team-a")
	turns(carol, 9*time.Second, "get nodes -o wide", "get pods -A --field-selector=status.phase!=Running", "describe node node-1", "get events -A", "rollout restart deployment/search -n shop",
		"get deployments,daemonsets -A", "annotate deployment web -n shop example.test/checked=%d --overwrite", "get hpa -A", "logs -n kube-system -l app=coredns --tail=5")
}

// maintain is the end of the day: a node is emptied and comes back.
func (c *crew) maintain(ctx context.Context) error {
	for _, line := range []string{"cordon node-3", "drain node-3 --ignore-daemonsets --delete-emptydir-data --force --timeout=60s", "uncordon node-3"} {
		if err := c.p.kubectl(ctx, carol, "", line); err != nil {
			c.count("maintain", err)
		}
	}
	return nil
}
