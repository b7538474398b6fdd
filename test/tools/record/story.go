package main

import (
	"fmt"

	"whodunit/test/e2e/cluster"
)

const (
	admin   = cluster.Admin
	alice   = cluster.Alice
	bob     = cluster.Bob
	carol   = cluster.Carol
	dave    = cluster.Dave
	eve     = cluster.Eve
	mallory = cluster.Mallory
	ci      = cluster.CIBot

	cicd     = "system:serviceaccount:dev:k8saas-generic-sa-cicd"
	testDemo = "system:serviceaccount:default:test-demo"
	tester   = "system:serviceaccount:default:cloudyuga-test"
	nobody   = "nobody"
)

// addresses says from where people call. All are of this machine, so that the recording needs no network.
func addresses() map[string]string {
	return map[string]string{alice: "127.0.1.11", bob: "127.0.1.12", carol: "127.0.1.13", dave: "127.0.1.14",
		eve: "127.0.2.31", mallory: "127.0.66.6", ci: "127.0.3.40"}
}

// podAddress is where the plain requests of curl come from.
func podAddress(who string) string {
	switch who {
	case testDemo:
		return "127.0.4.7"
	case tester:
		return "127.0.4.6"
	case nobody:
		return "127.0.66.6"
	}
	return ""
}

// story is what happens. The names are made up, but for those of the two service accounts that this project's first
// requirements speak of.
func story() []act {
	return []act{
		{"the shop is set up", []step{
			stdin(kubectl(admin, "create -f -"), setUp),
			kubectl(admin, "create secret generic payments-db -n shop --from-literal=password=example-not-a-password"),
			stdin(kubectl(ci, "apply -f - -n shop"), workload("frontend", "2.9.0", 2)+workload("checkout", "1.4.0", 3)+workload("payments", "3.0.1", 2)),
			kubectl(ci, "rollout status deployment/checkout -n shop --timeout=90s"),
			kubectl(ci, "rollout status deployment/payments -n shop --timeout=90s"),
			kubectl(carol, "get pods -n shop -o wide"),
		}},
		{"an ordinary morning", []step{
			kubectl(bob, "get pods -n shop"),
			kubectl(bob, "logs deploy/checkout -n shop --tail=20"),
			kubectl(bob, "describe deployment checkout -n shop"),
			kubectl(bob, "exec deploy/checkout -n shop --", "sh", "-c", "env | sort"),
			kubectl(bob, "scale deployment/frontend -n shop --replicas=4"),
			{who: bob, args: []string{"edit", "configmap", "shop-settings", "-n", "shop"}, editor: "sed -i.bak -e s/basket_limit=50/basket_limit=200/"},
			kubectl(admin, "label namespace shop reviewed=yes --dry-run=server"),
			kubectl(carol, "annotate deployment payments -n shop example.test/on-call=carol"),
		}},
		{"the CI bot rolls out", []step{
			kubectl(ci, "set image deployment/checkout -n shop checkout=registry.example.test/shop/checkout:1.5.0"),
			kubectl(ci, "rollout status deployment/checkout -n shop --timeout=90s"),
			kubectl(ci, "set image deployment/frontend -n shop frontend=registry.example.test/shop/frontend:2.10.0"),
			kubectl(ci, "rollout status deployment/frontend -n shop --timeout=90s"),
			refused(kubectl(ci, "get secret payments-db -n shop")),
			kubectl(bob, "rollout history deployment/checkout -n shop"),
			kubectl(bob, "rollout undo deployment/frontend -n shop"),
		}},
		{"test-demo reads a secret that it was given by mistake", []step{
			stdin(kubectl(admin, "apply -f -"), mistake),
			{who: tester, curl: &curl{path: "/api/v1/namespaces/default/secrets/cloudyuga-secret", agent: "curl/8.5.0", want: 200}},
			{who: testDemo, curl: &curl{path: "/api/v1/namespaces/default/secrets", agent: "curl/8.5.0", want: 200}},
			{who: testDemo, curl: &curl{path: "/api/v1/namespaces/default/secrets/cloudyuga-secret", agent: "curl/8.5.0", want: 200}},
			{who: testDemo, curl: &curl{path: "/api/v1/namespaces/shop/secrets", agent: "curl/8.5.0", want: 403}},
		}},
		{"alice acts as the CI/CD service account", []step{
			kubectl(alice, "get deployments -n dev --as="+cicd),
			kubectl(alice, "auth can-i --list -n dev --as="+cicd),
			kubectl(alice, "create deployment hotfix -n dev --image=registry.example.test/dev/hotfix:0.1 --as="+cicd),
			kubectl(alice, "get secrets -n dev --as="+cicd),
			refused(kubectl(alice, "get secrets -n shop --as="+cicd)),
			refused(kubectl(bob, "get pods -n dev --as="+cicd)),
		}},
		{"bob deletes the wrong deployment", []step{
			kubectl(bob, "get deployments -n team-a"),
			stdin(kubectl(bob, "apply -f - -n team-a"), workload("checkout", "1.6.0-try", 1)),
			kubectl(bob, "delete deployment checkout -n shop"), // he meant -n team-a
			kubectl(carol, "get deployments -n shop"),
			kubectl(carol, "get events -n shop --sort-by=.lastTimestamp"),
			refused(kubectl(eve, "get deployments -n shop")),
			stdin(kubectl(ci, "apply -f - -n shop"), workload("checkout", "1.5.0", 3)),
			kubectl(ci, "rollout status deployment/checkout -n shop --timeout=90s"),
		}},
		{"mallory tries her luck", []step{
			{who: nobody, curl: &curl{path: "/api/v1/namespaces/kube-system/secrets", agent: "curl/7.88.1", want: 403}},
			{who: nobody, curl: &curl{path: "/api/v1/nodes", agent: "curl/7.88.1", token: "guessed-token-1", want: 401}},
			{who: nobody, curl: &curl{path: "/api/v1/nodes", agent: "curl/7.88.1", token: "guessed-token-2", want: 401}},
			kubectl(mallory, "auth whoami"),
			kubectl(mallory, "auth can-i --list -n shop"),
			refused(kubectl(mallory, "get secrets -A")),
			refused(kubectl(mallory, "get secret payments-db -n shop -o yaml")),
			refused(kubectl(mallory, "get nodes")),
			refused(kubectl(mallory, "exec deploy/payments -n shop -- sh")),
			refused(kubectl(mallory, "get pods -n kube-system --as=system:admin --as-group=system:masters")),
			refused(kubectl(mallory, "create clusterrolebinding mallory --clusterrole=cluster-admin --user="+mallory)),
			refused(stdin(kubectl(mallory, "create -f - -n shop --validate=false"), privileged)),
			refused(kubectl(mallory, "delete deployment payments -n shop")),
			refused(kubectl(mallory, "create token default -n kube-system")),
		}},
		{"eve looks around, dave and carol look after it", []step{
			kubectl(eve, "get pods,deployments,configmaps -n team-a"),
			refused(kubectl(eve, "get secrets -n team-a")),
			refused(kubectl(eve, "delete pods --all -n team-a")),
			kubectl(dave, "get rolebindings,clusterrolebindings -A -o name"),
			kubectl(dave, "get secrets -n shop"),
			kubectl(dave, "get role deployment-manager -n default -o yaml"),
			kubectl(carol, "exec deploy/payments -n shop -it --", "sh", "-c", "cat /etc/hosts"),
			kubectl(carol, "delete rolebinding deployment-manager-binding -n default"),
			kubectl(carol, "rollout restart deployment/payments -n shop"),
			kubectl(admin, "cordon node-3"),
			kubectl(admin, "drain node-3 --ignore-daemonsets --delete-emptydir-data --force --timeout=90s"),
			kubectl(admin, "uncordon node-3"),
			kubectl(alice, "delete deployment hotfix -n dev --as="+cicd),
		}},
		{"a quiet end", []step{
			kubectl(bob, "get pods -n shop"),
			kubectl(carol, "get deployments -A"),
		}},
	}
}

func workload(name, tag string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
  labels: {app: %[1]s, team: shop}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s, team: shop}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: %[1]s
        image: registry.example.test/shop/%[1]s:%[2]s
        ports: [{containerPort: 8080}]
        envFrom: [{configMapRef: {name: shop-settings, optional: true}}]
        resources: {requests: {cpu: 100m, memory: 128Mi}}
---
`, name, tag, replicas)
}

const setUp = `apiVersion: v1
kind: ConfigMap
metadata: {name: shop-settings, namespace: shop}
data:
  settings: |
    currency=EUR
    basket_limit=50
---
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop}
spec: {selector: {app: checkout}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: payments, namespace: shop}
spec: {selector: {app: payments}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: send-mails, namespace: shop}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: Never
          containers: [{name: mails, image: "registry.example.test/shop/mails:1.1.0", args: ["--once"]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: contractors-view-events, namespace: team-a}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: contractors}]
`

const mistake = `apiVersion: v1
kind: Secret
metadata: {name: cloudyuga-secret, namespace: default}
stringData: {username: example-user, password: example-not-a-password}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cloudyuga-test, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: test-demo, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: deployment-manager, namespace: default}
rules:
- apiGroups: ["", apps]
  resources: [pods, deployments, replicasets, configmaps, secrets]
  verbs: [get, watch, list, create, update]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: deployment-manager-binding, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: deployment-manager}
subjects:
- {kind: ServiceAccount, name: cloudyuga-test, namespace: default}
- {kind: ServiceAccount, name: test-demo, namespace: default}
`

const privileged = `apiVersion: v1
kind: Pod
metadata: {name: debug-node}
spec:
  hostPID: true
  containers:
  - name: debug
    image: registry.example.test/tools/debug:1
    securityContext: {privileged: true}
    volumeMounts: [{name: root, mountPath: /host}]
  volumes: [{name: root, hostPath: {path: /}}]
`
