package native

import (
	"net/netip"
	"slices"

	"whodunit/internal/match"
)

// systemUsers are the control plane's own names (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#core-component-roles),
// and the API server's for its own requests.
var systemUsers = []string{"system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy",
	"system:cloud-controller-manager", "system:volume-scheduler", "system:aggregator", "system:kube-aggregator", "system:konnectivity-server"}

// systemGlobs are the names of control plane components, kubelets, and service accounts of kube-system, as all built-in controllers are.
var systemGlobs = append([]string{"system:node:?*", serviceAccountPrefix + "kube-system:?*"}, systemUsers...)

// serviceAccountRegex is what isServiceAccount asks.
const serviceAccountRegex = `^` + serviceAccountPrefix + `[^:]+:(?s:.)`

// isSystemUser reports whether a name is one of systemGlobs.
func isSystemUser(name string) bool {
	return slices.ContainsFunc(systemGlobs, func(g string) bool { return match.MatchGlob(g, name) })
}

// notPublic are the networks that no request from the Internet comes from: IANA's special-purpose registries
// (https://www.iana.org/assignments/iana-ipv4-special-registry) and multicast. The networks for documentation are left public: tests need some.
var notPublic = []string{
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15",
	"224.0.0.0/4", "240.0.0.0/4", "::/127", "100::/64", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
}

// isPublicIP reports whether s is an address of the Internet. Text that is no address is none.
func isPublicIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil && !slices.ContainsFunc(notPublic, func(n string) bool { return match.InCIDR(s, n) })
}
