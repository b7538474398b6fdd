package main

import "whodunit/test/e2e/cluster"

const (
	alice   = cluster.Alice
	bob     = cluster.Bob
	carol   = cluster.Carol
	mallory = cluster.Mallory

	// root is the cluster's first administrator, with the certificate that kubeadm makes.
	root = "kubernetes-admin"
	// trent is an administrator whose laptop somebody else has.
	trent = "trent@example.test"
	// rogue is a machine with a kubelet's credentials that nobody ordered.
	rogue = "system:node:rogue-1"

	nobody = "system:anonymous" // no credentials

	rootAddr     = "10.8.0.2"
	internet     = "203.0.113.66" // where the attackers are when they are not inside
	internetToo  = "203.0.113.77"
	bootstrapper = "system:bootstrap:07401b"
)

// addresses says from where people and nodes call: the office's VPN, the nodes' network, the internet.
func addresses() map[string]string {
	return map[string]string{
		alice: "10.8.0.11", bob: "10.8.0.12", carol: "10.8.0.13", cluster.Dave: "10.8.0.14", cluster.Eve: "10.8.0.31",
		mallory: internet, trent: "10.8.0.21", rogue: "10.10.0.99",
		"system:node:cp-1": "10.10.0.5", "system:node:node-1": "10.10.0.11", "system:node:node-2": "10.10.0.12", "system:node:node-3": "10.10.0.13",
		"system:kube-controller-manager": "10.10.0.5", "system:kube-scheduler": "10.10.0.5",
	}
}

func users() []cluster.User {
	return []cluster.User{{Name: trent, Groups: []string{"platform"}}, {Name: rogue, Groups: []string{"system:nodes"}}}
}
