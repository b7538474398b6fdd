package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"whodunit/test/e2e/cluster"
)

const (
	core           = "/api/v1"
	apps           = "/apis/apps/v1"
	batch          = "/apis/batch/v1"
	endpointSlices = "/apis/discovery.k8s.io/v1/endpointslices"
	ingressV       = "/apis/networking.k8s.io/v1"
	goAgent        = " (linux/amd64) kubernetes/0000000"
)

// platform starts what always runs: proxies, name servers, metrics, log shippers, the scaler, the CI.
func (c *crew) platform(ctx context.Context) error {
	programs := map[string]*client{}
	for app, agent := range map[string]string{
		"kube-system/kube-proxy": "kube-proxy/v1.36.3" + goAgent, "kube-system/coredns": "coredns/v0.0.0" + goAgent, "kube-system/metrics-server": "metrics-server/v0.8.0" + goAgent,
		"monitoring/prometheus": "Prometheus/3.5.0", "monitoring/kube-state-metrics": "kube-state-metrics/v2.16.0" + goAgent, "monitoring/fluent-bit": "Fluent-Bit",
		"platform/scaler": "scaler/v1.2.0" + goAgent, "platform/installer": "Helm/3.18.4", "ci/runner": "Helm/3.18.4",
	} {
		ns, name, _ := cut(app)
		d, err := c.p.login(ctx, ns, name)
		if err != nil {
			return err
		}
		if err := c.p.kubeconfig(ctx, d); err != nil { // for those that use kubectl
			return err
		}
		programs[name] = c.p.program(d, agent)
	}
	c.watch(ctx, "kube-proxy", programs["kube-proxy"], 60, core+"/services", endpointSlices, core+"/nodes")
	c.watch(ctx, "coredns", programs["coredns"], 50, core+"/services", endpointSlices, core+"/namespaces")
	c.watch(ctx, "prometheus", programs["prometheus"], 40, core+"/nodes", core+"/pods", core+"/services", endpointSlices)
	c.watch(ctx, "kube-state-metrics", programs["kube-state-metrics"], 55, core+"/nodes", core+"/pods", core+"/services", core+"/secrets", core+"/configmaps", core+"/namespaces",
		core+"/persistentvolumeclaims", core+"/resourcequotas", core+"/limitranges", apps+"/deployments", apps+"/daemonsets", apps+"/statefulsets", apps+"/replicasets", batch+"/jobs",
		batch+"/cronjobs", ingressV+"/ingresses", "/apis/certificates.k8s.io/v1/certificatesigningrequests", "/apis/storage.k8s.io/v1/storageclasses")
	c.watch(ctx, "metrics-server", programs["metrics-server"], 45, core+"/nodes", core+"/pods")
	c.every(ctx, "prometheus", 15*time.Second, func(ctx context.Context, _ int) error { return programs["prometheus"].ping(ctx, "/metrics") })
	c.every(ctx, "fluent-bit", 5*time.Second, func(ctx context.Context, _ int) error {
		return programs["fluent-bit"].ping(ctx, core+"/namespaces/shop/pods?limit=5")
	})
	for _, node := range []string{"cp-1", "node-1", "node-2", "node-3"} {
		c.every(ctx, "kubelets review", 15*time.Second, func(ctx context.Context, _ int) error { return c.p.review(ctx, node, programs["metrics-server"].token) })
	}
	c.lead(ctx, programs["scaler"], "platform", "scaler", "scaler-0")
	for i, name := range []string{"web", "cart", "search"} {
		c.every(ctx, "scaler", 11*time.Second, func(ctx context.Context, n int) error {
			return programs["scaler"].do(ctx, http.MethodPatch+" "+mergePatch, apps+"/namespaces/shop/deployments/"+name+"/scale", object{"spec": object{"replicas": 2 + (n+i)%4}}, nil)
		})
	}
	c.releases(ctx, programs["runner"])
	return nil
}

func cut(s string) (a, b string, ok bool) {
	for i := range s {
		if s[i] == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// ping asks for a page whose content does not matter.
func (c *client) ping(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, http.NoBody)
	if err != nil {
		return err
	}
	c.headers(req)
	resp, err := c.hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s: %s", errStatus, path, resp.Status)
	}
	return nil
}

// review is what a kubelet asks when metrics-server comes with its token.
func (p *player) review(ctx context.Context, node, token string) error {
	kubelet := p.client("system:node:"+node, kubeletAgent)
	defer kubelet.hc.CloseIdleConnections()
	if err := kubelet.do(ctx, http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", object{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
		"spec": object{"token": token}}, nil); err != nil {
		return err
	}
	return kubelet.do(ctx, http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews", object{"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
		"spec": object{"user": "system:serviceaccount:kube-system:metrics-server", "groups": []string{"system:serviceaccounts", "system:authenticated"},
			"resourceAttributes": object{"verb": "get", "version": "v1", "resource": "nodes", "subresource": "metrics", "name": node}}}, nil)
}

// releases is the CI: it brings out versions with helm, and previews of branches with kubectl in namespaces that come and go.
func (c *crew) releases(ctx context.Context, helm *client) {
	for i, name := range []string{"web", "cart", "search", "payments", "mailer", "catalog"} {
		r := &release{helm: helm, ns: "shop", name: name}
		c.every(ctx, "helm", time.Duration(13+2*i)*time.Second, func(ctx context.Context, _ int) error { return r.upgrade(ctx) })
	}
	const deployer = "system:serviceaccount:ci:deployer"
	c.every(ctx, "previews", 20*time.Second, func(ctx context.Context, i int) error {
		ns := fmt.Sprintf("preview-%d", 1000+i)
		for _, line := range []string{"create namespace " + ns, "apply -n " + ns + " -f -", "rollout status deployment/web --timeout=60s -n " + ns, "delete namespace " + ns} {
			if err := c.p.kubectl(ctx, deployer, manifest("preview"), line); err != nil {
				return err
			}
		}
		return nil
	})
}

// release is one that helm keeps in secrets.
type release struct {
	helm     *client
	ns, name string
	version  int
}

func (r *release) secret(version int, status string) object {
	return object{"apiVersion": "v1", "kind": "Secret", "type": "helm.sh/release.v1", "stringData": object{"release": "H4sIAAAAAAAAA-example"},
		"metadata": object{"name": fmt.Sprintf("sh.helm.release.v1.%s.v%d", r.name, version), "namespace": r.ns,
			"labels": object{"name": r.name, "owner": "helm", "status": status, "version": fmt.Sprint(version)}}}
}

// upgrade makes the requests of helm upgrade --install.
func (r *release) upgrade(ctx context.Context) error {
	secrets := core + "/namespaces/" + r.ns + "/secrets"
	do := r.helm.do
	if err := do(ctx, http.MethodGet, secrets+"?labelSelector=name%3D"+r.name+"%2Cowner%3Dhelm%2Cstatus%3Ddeployed", nil, nil); err != nil {
		return err
	}
	if err := do(ctx, http.MethodGet, secrets+"?labelSelector=name%3D"+r.name+"%2Cowner%3Dhelm", nil, nil); err != nil {
		return err
	}
	next := r.version + 1
	deployments := apps + "/namespaces/" + r.ns + "/deployments"
	if r.version == 0 {
		if err := do(ctx, http.MethodPost, secrets, r.secret(next, "pending-install"), nil); err != nil {
			return err
		}
		if err := r.install(ctx); err != nil {
			return err
		}
	} else {
		for _, path := range []string{secrets + fmt.Sprintf("/sh.helm.release.v1.%s.v%d", r.name, r.version), deployments + "/" + r.name, core + "/namespaces/" + r.ns + "/services/" + r.name} {
			if err := do(ctx, http.MethodGet, path, nil, nil); err != nil {
				return err
			}
		}
		if err := do(ctx, http.MethodPost, secrets, r.secret(next, "pending-upgrade"), nil); err != nil {
			return err
		}
		patch := object{"spec": object{"template": object{"spec": object{"containers": []object{{"name": r.name, "image": r.image(next)}}}}}}
		if err := do(ctx, http.MethodPatch+" "+strategicPatch, deployments+"/"+r.name, patch, nil); err != nil {
			return err
		}
		if err := do(ctx, http.MethodPut, secrets+fmt.Sprintf("/sh.helm.release.v1.%s.v%d", r.name, r.version), r.secret(r.version, "superseded"), nil); err != nil {
			return err
		}
	}
	if err := do(ctx, http.MethodPut, secrets+fmt.Sprintf("/sh.helm.release.v1.%s.v%d", r.name, next), r.secret(next, "deployed"), nil); err != nil {
		return err
	}
	r.version = next
	if old := r.version - 10; old > 0 { // helm keeps ten
		return do(ctx, http.MethodDelete, secrets+fmt.Sprintf("/sh.helm.release.v1.%s.v%d", r.name, old), nil, nil)
	}
	return nil
}

func (r *release) image(version int) string {
	return fmt.Sprintf("registry.example.test/%s/%s:2.%d.0", r.ns, r.name, version)
}

// install makes what the chart holds.
func (r *release) install(ctx context.Context) error {
	labels := object{"app": r.name, "app.kubernetes.io/managed-by": "Helm"}
	in := func(kind, version string, spec object) object {
		return object{"apiVersion": version, "kind": kind, "metadata": object{"name": r.name, "namespace": r.ns, "labels": labels}, "spec": spec}
	}
	for _, o := range []struct {
		path string
		body object
	}{
		{core + "/namespaces/" + r.ns + "/services", in("Service", "v1", object{"selector": object{"app": r.name}, "ports": []object{{"port": 80, "targetPort": 8080}}})},
		{ingressV + "/namespaces/" + r.ns + "/ingresses", in("Ingress", "networking.k8s.io/v1", object{"ingressClassName": "nginx",
			"tls": []object{{"hosts": []string{r.name + ".example.test"}, "secretName": r.name + "-tls"}},
			"rules": []object{{"host": r.name + ".example.test", "http": object{"paths": []object{{"path": "/", "pathType": "Prefix",
				"backend": object{"service": object{"name": r.name, "port": object{"number": 80}}}}}}}}})},
		{apps + "/namespaces/" + r.ns + "/deployments", in("Deployment", "apps/v1", object{"replicas": 3, "selector": object{"matchLabels": object{"app": r.name}},
			"template": object{"metadata": object{"labels": object{"app": r.name}}, "spec": object{"terminationGracePeriodSeconds": 1,
				"containers": []object{{"name": r.name, "image": r.image(1), "ports": []object{{"containerPort": 8080}},
					"securityContext": object{"allowPrivilegeEscalation": false, "capabilities": object{"drop": []string{"ALL"}}},
					"resources":       object{"requests": object{"cpu": "100m", "memory": "128Mi"}}}}}}})},
	} {
		if err := r.helm.do(ctx, http.MethodPost, o.path, o.body, nil); err != nil {
			return err
		}
	}
	return nil
}

// join lets a new machine become a node, as kubeadm join does: cluster-info as nobody, then with the bootstrap token.
func (c *crew) join(ctx context.Context) error {
	const addr, name = "10.10.0.14", "node-4"
	kubeadm := "kubeadm/v1.36.3" + goAgent
	if err := c.p.newClient(addr, "", kubeadm).do(ctx, http.MethodGet, core+"/namespaces/kube-public/configmaps/cluster-info?timeout=10s", nil, nil); err != nil {
		return err
	}
	const token = "07401b.f395accd246ae52d"
	if err := c.p.newClient(addr, token, kubeadm).do(ctx, http.MethodGet, core+"/namespaces/kube-system/configmaps/kubeadm-config?timeout=10s", nil, nil); err != nil {
		return err
	}
	request, err := signingRequest("system:node:"+name, "system:nodes")
	if err != nil {
		return err
	}
	kubelet := c.p.newClient(addr, token, kubeletAgent)
	const path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
	var csr struct {
		Metadata struct{ Name string }
		Status   struct{ Certificate []byte }
	}
	if err := kubelet.do(ctx, http.MethodPost, path, object{"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": object{"generateName": "node-csr-"},
		"spec": object{"request": request.request, "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": []string{"digital signature", "client auth"}}}, &csr); err != nil {
		return err
	}
	for len(csr.Status.Certificate) == 0 {
		if err := wait(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if err := kubelet.do(ctx, http.MethodGet, path+"/"+csr.Metadata.Name, nil, &csr); err != nil {
			return err
		}
	}
	if err := c.p.c.Connect(ctx, "system:node:"+name, addr, cluster.Credentials{Cert: csr.Status.Certificate, Key: request.key}); err != nil {
		return err
	}
	return c.p.c.AddNodes(ctx, name)
}
