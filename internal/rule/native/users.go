package native

import (
	"net/netip"
	"slices"
	"strings"
)

// systemUsers are the control plane's own names (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#core-component-roles),
// and the API server's for its own requests.
var systemUsers = []string{"system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:kube-proxy",
	"system:cloud-controller-manager", "system:volume-scheduler", "system:aggregator", "system:kube-aggregator", "system:konnectivity-server"}

const (
	nodePrefix          = "system:node:"
	systemAccountPrefix = serviceAccountPrefix + "kube-system:"
)

// isSystemUser reports whether a name is that of a control plane component, a kubelet, or a service account of kube-system, as all
// built-in controllers are.
func isSystemUser(name string) bool {
	return strings.HasPrefix(name, nodePrefix) && len(name) > len(nodePrefix) ||
		strings.HasPrefix(name, systemAccountPrefix) && len(name) > len(systemAccountPrefix) || slices.Contains(systemUsers, name)
}

// notPublic are the networks of IANA's special-purpose registries that no request from the Internet comes from, but for those that
// netip knows itself. The networks for documentation are left public: tests need some.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("fec0::/10"),
}

// isPublicIP reports whether s is an address of the Internet. Text that is no address is none.
func isPublicIP(s string) bool {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return false
	}
	a = a.Unmap().WithZone("")
	return a.IsGlobalUnicast() && !a.IsPrivate() && !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(a) })
}
