// Package coverage tells what a set of rules can find: which techniques of the public matrices its tags name, and which of its rules can never
// fire on the events that arrive, or that an audit policy lets arrive.
package coverage

import (
	"slices"
	"strings"

	"whodunit/internal/rule"
)

// Technique is one entry of a matrix.
type Technique struct {
	ID, Name string
	Tactics  []string
	// Unseen says why audit events cannot show it by themselves; "" where they can.
	Unseen string
	Rules  []string // ids of the rules whose tags name it or, in ATT&CK, a part of it
}

// Matrix is a public list of techniques.
type Matrix struct {
	Name, Source string
	Techniques   []Technique
}

// ThreatMatrix is Microsoft's Threat Matrix for Kubernetes (microsoft.github.io/Threat-Matrix-for-Kubernetes): its 40 techniques
// with a page of their own, which all but MS-TA9032 of MS-TA9001 to MS-TA9041 have.
func ThreatMatrix() *Matrix {
	const app, net = "happens inside an application, which sends no request to the API server", "happens on the network, not at the API server"
	m := &Matrix{Name: "Microsoft Threat Matrix for Kubernetes", Source: "microsoft.github.io/Threat-Matrix-for-Kubernetes"}
	for _, t := range [][4]string{
		{"9001", "Using cloud credentials", "Initial Access"}, {"9002", "Compromised image in registry", "Initial Access"}, {"9003", "Kubeconfig file", "Initial Access"},
		{"9004", "Application vulnerability", "Initial Access", app}, {"9005", "Exposed sensitive interfaces", "Initial Access"},
		{"9006", "Exec into container", "Execution"}, {"9007", "bash/cmd inside container", "Execution"}, {"9008", "New container", "Execution"},
		{"9009", "Application exploit (RCE)", "Execution", app}, {"9010", "SSH server running inside container", "Execution", "happens inside a container"},
		{"9011", "Sidecar injection", "Execution"}, {"9012", "Backdoor container", "Persistence"}, {"9013", "Writable hostPath mount", "Persistence, Privilege Escalation, Lateral Movement"},
		{"9014", "Kubernetes CronJob", "Persistence"}, {"9015", "Malicious admission controller", "Persistence, Credential Access"},
		{"9016", "Container service account", "Persistence, Credential Access, Lateral Movement"}, {"9017", "Static pods", "Persistence"},
		{"9018", "Privileged container", "Privilege Escalation"}, {"9019", "Cluster-admin binding", "Privilege Escalation"},
		{"9020", "Access cloud resources", "Privilege Escalation, Lateral Movement", "happens at the cloud's API"},
		{"9021", "Clear container logs", "Defense Evasion", "happens on the node, unless it is done through exec"}, {"9022", "Delete Kubernetes events", "Defense Evasion"},
		{"9023", "Pod or container name similarity", "Defense Evasion"}, {"9024", "Connect from proxy server", "Defense Evasion"},
		{"9025", "List Kubernetes secrets", "Credential Access"}, {"9026", "Mount service principal", "Credential Access", "a file on the node"},
		{"9027", "Application credentials in configuration files", "Credential Access, Lateral Movement"},
		{"9028", "Access managed identity credentials", "Credential Access"}, {"9029", "Access Kubernetes API server", "Discovery"}, {"9030", "Access kubelet API", "Discovery"},
		{"9031", "Network mapping", "Discovery"}, {"9033", "Instance metadata API", "Discovery"}, {"9034", "Cluster internal networking", "Lateral Movement"},
		{"9035", "CoreDNS poisoning", "Lateral Movement"}, {"9036", "ARP poisoning and IP spoofing", "Lateral Movement", net}, {"9037", "Images from a private registry", "Collection", "happens at the registry"},
		{"9038", "Data destruction", "Impact"}, {"9039", "Resource hijacking", "Impact", "happens inside a container, image names apart"}, {"9040", "Denial of service", "Impact", "happens on the network, floods of the API server apart"},
		{"9041", "Collecting data from pod", "Collection"},
	} {
		m.Techniques = append(m.Techniques, Technique{ID: "MS-TA" + t[0], Name: t[1], Tactics: strings.Split(t[2], ", "), Unseen: t[3]})
	}
	return m
}

// Attack is the techniques of MITRE ATT&CK's matrix for containers (attack.mitre.org/matrices/enterprise/containers, version 17), each
// with its parts.
func Attack() *Matrix {
	const inside = "happens inside a container or at its network"
	m := &Matrix{Name: "MITRE ATT&CK, containers", Source: "attack.mitre.org/matrices/enterprise/containers"}
	for _, t := range [][4]string{
		{"T1190", "Exploit public-facing application", "Initial Access"}, {"T1133", "External remote services", "Initial Access, Persistence"},
		{"T1078", "Valid accounts", "Initial Access, Persistence, Privilege Escalation, Defense Evasion"},
		{"T1609", "Container administration command", "Execution"}, {"T1610", "Deploy container", "Execution, Defense Evasion"},
		{"T1053", "Scheduled task/job", "Execution, Persistence, Privilege Escalation"}, {"T1204", "User execution: malicious image", "Execution"},
		{"T1098", "Account manipulation", "Persistence, Privilege Escalation"}, {"T1136", "Create account", "Persistence"},
		{"T1543", "Create or modify system process: container service", "Persistence, Privilege Escalation"}, {"T1525", "Implant internal image", "Persistence"},
		{"T1611", "Escape to host", "Privilege Escalation"}, {"T1068", "Exploitation for privilege escalation", "Privilege Escalation", inside},
		{"T1612", "Build image on host", "Defense Evasion", "happens on the node"}, {"T1562", "Impair defenses", "Defense Evasion"}, {"T1070", "Indicator removal", "Defense Evasion"},
		{"T1036", "Masquerading", "Defense Evasion"}, {"T1550", "Use alternate authentication material", "Defense Evasion, Lateral Movement"},
		{"T1110", "Brute force", "Credential Access"}, {"T1528", "Steal application access token", "Credential Access"}, {"T1552", "Unsecured credentials", "Credential Access"},
		{"T1613", "Container and resource discovery", "Discovery"}, {"T1046", "Network service discovery", "Discovery", inside}, {"T1069", "Permission groups discovery", "Discovery"},
		{"T1485", "Data destruction", "Impact"}, {"T1499", "Endpoint denial of service", "Impact", inside}, {"T1498", "Network denial of service", "Impact", inside},
		{"T1490", "Inhibit system recovery", "Impact"}, {"T1496", "Resource hijacking", "Impact", "happens inside a container, image names apart"},
	} {
		m.Techniques = append(m.Techniques, Technique{ID: t[0], Name: t[1], Tactics: strings.Split(t[2], ", "), Unseen: t[3]})
	}
	return m
}

// Cover fills in which rules each technique has, by their tags (`ms-ta9025`, `attack.t1552.007`), and gives the techniques that tags
// name and the matrix lacks, in order. Rules that are off do not count.
func (m *Matrix) Cover(rules []*rule.Rule) (others []string) {
	at := make(map[string]*Technique, len(m.Techniques))
	for i := range m.Techniques {
		m.Techniques[i].Rules = nil
		at[m.Techniques[i].ID] = &m.Techniques[i]
	}
	for _, r := range rules {
		if r.Off != "" || r.Silent {
			continue
		}
		for _, tag := range r.Tags {
			id := technique(tag)
			if id == "" || strings.HasPrefix(id, "T") != strings.HasPrefix(m.Techniques[0].ID, "T") {
				continue
			}
			t := at[id]
			switch {
			case t == nil && !slices.Contains(others, id):
				others = append(others, id)
			case t != nil && !slices.Contains(t.Rules, r.ID):
				t.Rules = append(t.Rules, r.ID)
			}
		}
	}
	slices.Sort(others)
	return others
}

// technique is the matrix's id for a tag, parts (T1552.007) counted to their whole; "" for other tags.
func technique(tag string) string {
	tag = strings.ToUpper(tag)
	if t, ok := strings.CutPrefix(tag, "ATTACK.T"); ok && len(t) >= 4 && t[0] >= '0' && t[0] <= '9' {
		whole, _, _ := strings.Cut(t, ".")
		return "T" + whole
	}
	if strings.HasPrefix(tag, "MS-TA") {
		return tag
	}
	return ""
}

// Covered counts the techniques that have a rule.
func (m *Matrix) Covered() (n int) {
	for _, t := range m.Techniques {
		if len(t.Rules) > 0 {
			n++
		}
	}
	return n
}
