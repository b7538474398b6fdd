package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// What the rules are about: a cluster's usual words, and names that no event has, as in real packs.
var (
	resources  = []string{"pods", "secrets", "configmaps", "deployments", "daemonsets", "clusterroles", "rolebindings", "serviceaccounts", "nodes", "services", "ingresses", "cronjobs", "namespaces", "events", "leases", "networkpolicies"}
	verbs      = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
	namespaces = []string{"kube-system", "default", "prod", "payments", "ci", "monitoring", "kube-public"}
	tools      = []string{"curl/", "python-requests", "kubectl/v1.1", "kubeletctl", "peirates", "Go-http-client/1.1", "sqlmap", "nmap"}
	images     = []string{"docker.io/library/alpine", "quay.io/evil", "xmrig", "kinsing", "registry.example.test/team", "nginx"}
)

type maker struct{ *rand.Rand }

func pick[T any](m maker, from []T) T { return from[m.IntN(len(from))] }

func (m maker) name(i int) string { return fmt.Sprintf("%s-%d", pick(m, namespaces), i*7919%100003) }

// sigma is a rule of the kind that makes up most of public packs.
func (m maker) sigma(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "title: Rule %d\nid: %08x-0000-4000-8000-%012x\nstatus: test\nlogsource:\n    category: application\n    product: kubernetes\n    service: audit\ndetection:\n    selection:\n        verb: %s\n        objectRef.resource: %s\n",
		i, i, i, pick(m, verbs), pick(m, resources))
	filter := ""
	switch m.IntN(6) {
	case 0:
		fmt.Fprintf(&b, "        objectRef.namespace:\n            - %s\n            - %s\n", m.name(i), m.name(i+1))
	case 1:
		fmt.Fprintf(&b, "        userAgent|contains:\n            - '%s'\n            - 'x%d'\n", pick(m, tools), i)
	case 2:
		fmt.Fprintf(&b, "        user.username|startswith: 'system:serviceaccount:%s:'\n", m.name(i))
	case 3:
		fmt.Fprintf(&b, "        requestURI|re: '/namespaces/%s/[a-z]+/.*(token|exec)%d'\n", pick(m, namespaces), i)
	case 4:
		fmt.Fprintf(&b, "        sourceIPs|cidr: '203.0.%d.0/24'\n        responseStatus.code: 403\n", i%256)
	case 5:
		fmt.Fprintf(&b, "        objectRef.name|endswith: '-%d'\n", i)
		filter = fmt.Sprintf("    filter:\n        user.username|contains: ':%s:'\n", pick(m, namespaces))
	}
	condition := "selection"
	if filter != "" {
		b.WriteString(filter)
		condition = "selection and not filter"
	}
	fmt.Fprintf(&b, "    condition: %s\nlevel: %s\n", condition, pick(m, []string{"low", "medium", "high"}))
	return b.String()
}

func (m maker) native(i int) string {
	body := ""
	if m.IntN(3) == 0 {
		body = fmt.Sprintf(` && containers(requestObject).exists(c, c.image.startsWith("%s%d"))`, pick(m, images), i)
	}
	return fmt.Sprintf("id: native-%d\ntitle: Native %d\ncondition: >\n  objectRef.resource == %q && verb in [%q, %q] && glob(user.username, \"*%s*\")%s\nmessage: \"{user.username} {verb}\"\n",
		i, i, pick(m, resources), pick(m, verbs), pick(m, verbs), m.name(i), body)
}

func (m maker) falco(i int) string {
	return fmt.Sprintf("- rule: Falco %d\n  desc: d\n  condition: ka.stage=ResponseComplete and ka.verb=%s and ka.target.resource=%s and ka.req.pod.containers.image.repository intersects (%s%d) and not ka.user.name startswith system\n  output: o (user=%%ka.user.name)\n  priority: WARNING\n  source: k8s_audit\n",
		i, pick(m, []string{"create", "update", "patch"}), pick(m, []string{"pods", "deployments", "daemonsets"}), pick(m, images), i)
}

// write makes n rules in dir: 7 of 10 Sigma, 2 native, 1 Falco, some hundred a file.
func write(dir string, n int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	m := maker{rand.New(rand.NewPCG(1, uint64(n)))}
	var sigma, native, falco []string
	for i := range n {
		switch i % 10 {
		case 0:
			falco = append(falco, m.falco(i))
		case 1, 2:
			native = append(native, m.native(i))
		default:
			sigma = append(sigma, m.sigma(i))
		}
	}
	const perFile = 200
	put := func(name string, parts []string, sep string) error {
		for i := 0; i < len(parts); i += perFile {
			text := strings.Join(parts[i:min(i+perFile, len(parts))], sep)
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%04d.yaml", name, i/perFile)), []byte(text), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	if err := put("falco", falco, ""); err != nil {
		return err
	}
	if err := put("native", native, "---\n"); err != nil {
		return err
	}
	return put("sigma", sigma, "---\n")
}
