package explain

import (
	"strconv"
	"strings"

	"whodunit/internal/audit"
)

// Grant is the RBAC binding that allowed a request, as the API server's authorizer names it.
type Grant struct {
	Kind      string `json:"kind"` // ClusterRoleBinding or RoleBinding
	Name      string `json:"name"`
	Namespace string `json:"namespace,omitempty"` // of a RoleBinding
	RoleKind  string `json:"roleKind"`
	Role      string `json:"role"`
	SubjectIs string `json:"subjectKind"` // User, Group or ServiceAccount
	Subject   string `json:"subject"`     // of a ServiceAccount NAME/NAMESPACE, as the authorizer writes it
}

// ParseGrant reads the annotation authorization.k8s.io/reason. The form is that of
// k8s.io/kubernetes/pkg/registry/rbac/validation (ruleAccumulator and its describers): RBAC: allowed by ClusterRoleBinding "x" of
// ClusterRole "y" to Group "z", with the names quoted as by %q and a RoleBinding's namespace behind a slash.
func ParseGrant(reason string) (Grant, bool) {
	s, ok := strings.CutPrefix(reason, "RBAC: allowed by ")
	if !ok {
		return Grant{}, false
	}
	var g Grant
	for _, part := range []struct {
		kind, name *string
		next       string
	}{{&g.Kind, &g.Name, " of "}, {&g.RoleKind, &g.Role, " to "}, {&g.SubjectIs, &g.Subject, ""}} {
		if *part.kind, s, ok = strings.Cut(s, " "); !ok {
			return Grant{}, false
		}
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil || quoted[0] != '"' {
			return Grant{}, false
		}
		if *part.name, err = strconv.Unquote(quoted); err != nil {
			return Grant{}, false
		}
		if s, ok = strings.CutPrefix(s[len(quoted):], part.next); !ok {
			return Grant{}, false
		}
	}
	if g.Kind == "RoleBinding" {
		if i := strings.LastIndexByte(g.Name, '/'); i >= 0 {
			g.Name, g.Namespace = g.Name[:i], g.Name[i+1:]
		}
	}
	return g, s == ""
}

// Outcomes of an act.
const (
	OK      = "ok"
	Denied  = "denied"
	Failed  = "failed"
	Unknown = "unknown" // no event says how it ended
)

// outcome says how the request ended, and why if it went wrong.
func outcome(ev *audit.Event) (result, why string) {
	why = ev.Response.Message
	if why == "" {
		why = ev.Response.Reason
	}
	switch code := ev.Response.Code; {
	case ev.Stage == audit.StagePanic:
		return Failed, "the API server panicked"
	case code == 0:
		return Unknown, ""
	case code == 401 || code == 403:
		if why == "" {
			why = ev.Reason
		}
		return Denied, why
	case code >= 400:
		return Failed, why
	}
	return OK, ""
}
