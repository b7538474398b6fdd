// Package explain answers people's questions from audit events: who did it, which requests fail, who makes the load.
package explain

import (
	"net/url"
	"strings"
	"time"

	"whodunit/internal/audit"
)

// Act is one request, told from all its stages. Its strings are hostile text: clients choose many of them.
type Act struct {
	Time        time.Time `json:"time"` // when the request arrived, UTC
	Cluster     string    `json:"cluster,omitempty"`
	Did         string    `json:"did"`    // in words: deleted, evicted, scaled …
	Object      string    `json:"object"` // resource.group/name of what the request named
	Subresource string    `json:"subresource,omitempty"`
	Namespace   string    `json:"namespace,omitempty"`        //
	Possible    bool      `json:"possible,omitempty"`         // the events cannot prove that the object was touched
	Note        string    `json:"note,omitempty"`             // how it is about the object, where that is not plain
	User        string    `json:"user"`                       // who was authenticated; empty where nobody was
	As          string    `json:"as,omitempty"`               // whom the user impersonated
	Address     string    `json:"address,omitempty"`          // audit.Event.Peer
	Claimed     []string  `json:"claimedAddresses,omitempty"` // what the client said it came from
	Agent       string    `json:"agent,omitempty"`
	Outcome     string    `json:"outcome"` // OK, Denied, Failed, Unknown
	Code        int       `json:"code,omitempty"`
	Why         string    `json:"why,omitempty"`      // the API server's message for what went wrong
	Grant       *Grant    `json:"grant,omitempty"`    // the binding that allowed it
	Reason      string    `json:"reason,omitempty"`   // the authorizer's reason, where it names no binding
	DryRun      bool      `json:"dryRun,omitempty"`   // nothing was stored
	Command     []string  `json:"command,omitempty"`  // of exec
	Replicas    *int      `json:"replicas,omitempty"` // of scale
	Verb        string    `json:"verb"`
	URI         string    `json:"requestURI"`
	AuditIDs    []string  `json:"auditIDs"`

	stage     int  // the latest stage seen, see stageRank
	stages    uint // a bit for each stage seen
	dismissed bool // the latest stage says that it is none
}

// newAct tells what every kind of act has in common. The strings are copies, so that the act does not keep the event alive.
func newAct(ev *audit.Event) *Act {
	a := &Act{
		Cluster: strings.Clone(ev.Cluster), User: strings.Clone(ev.User.Username), As: strings.Clone(ev.Impersonated.Username),
		Address: strings.Clone(ev.Peer()), Agent: strings.Clone(ev.UserAgent), Code: ev.Response.Code, Verb: strings.Clone(ev.Verb),
		URI: strings.Clone(ev.RequestURI), AuditIDs: []string{strings.Clone(ev.AuditID)}, Namespace: strings.Clone(ev.ObjectRef.Namespace),
		Object: objectName(ev), Subresource: strings.Clone(ev.ObjectRef.Subresource), stage: stageRank(ev.Stage), DryRun: dryRun(ev),
	}
	a.Time = ev.Time()
	if ev.ReceivedMicros != 0 {
		a.Time = time.UnixMicro(ev.ReceivedMicros).UTC()
	}
	if n := len(ev.SourceIPs); n > 1 {
		for _, ip := range ev.SourceIPs[:n-1] {
			a.Claimed = append(a.Claimed, strings.Clone(ip))
		}
	}
	if ev.ObjectRef.Resource == "namespaces" { // the API server puts a namespace into itself
		a.Namespace = ""
	}
	outcome, why := outcome(ev)
	a.Outcome, a.Why = outcome, strings.Clone(why)
	if g, ok := ParseGrant(strings.Clone(ev.Reason)); ok {
		a.Grant = &g
	} else if a.Reason = strings.Clone(ev.Reason); a.Reason == "" && ev.Decision == "allow" && outcome == OK {
		a.Reason = implicitGrant(ev)
	}
	return a
}

// implicitGrant names why the authorizer allowed what it gives no reason for: members of system:masters pass before RBAC.
func implicitGrant(ev *audit.Event) string {
	groups := ev.User.Groups
	if ev.Impersonated.Username != "" {
		groups = ev.Impersonated.Groups
	}
	if contains(groups, "system:masters") {
		return "group system:masters"
	}
	return ""
}

func objectName(ev *audit.Event) string {
	o := ev.ObjectRef
	s := o.Resource
	if o.APIGroup != "" {
		s += "." + o.APIGroup
	}
	if name := o.Name; name != "" {
		s += "/" + name
	}
	return strings.Clone(s)
}

// stageRank orders the stages of one request: the higher one knows more.
func stageRank(s audit.Stage) int {
	switch s {
	case audit.StageRequestReceived:
		return 1
	case audit.StageResponseStarted:
		return 2
	case audit.StageResponseComplete:
		return 3
	case audit.StagePanic:
		return 4
	}
	return 0
}

// parameters is the query of the request's URI. What cannot be decoded is left out.
func parameters(ev *audit.Event) url.Values {
	_, query, _ := strings.Cut(ev.RequestURI, "?")
	v, _ := url.ParseQuery(query)
	return v
}

// dryRun reports whether the request asked to change nothing: by parameter, or for deletions in the body's DeleteOptions.
func dryRun(ev *audit.Event) bool {
	if strings.Contains(ev.RequestURI, "dryRun=") && contains(parameters(ev)["dryRun"], "All") {
		return true
	}
	if ev.Verb != "delete" && ev.Verb != "deletecollection" && ev.ObjectRef.Subresource != "eviction" {
		return false
	}
	options := ev.RequestObject
	if inner := member(options, "deleteOptions"); inner != nil {
		options = inner
	}
	for el := range audit.Elements(member(options, "dryRun")) {
		if t, _ := audit.Text(el); t == "All" {
			return true
		}
	}
	return false
}

// member is the raw value at a path of member names in a JSON value, nil where there is none. The last of duplicates wins.
func member(v []byte, path ...string) []byte {
	for _, name := range path {
		var found []byte
		for k, mv := range audit.Members(v) {
			if k == name {
				found = mv
			}
		}
		v = found
	}
	return v
}

func text(v []byte, path ...string) string {
	t, _ := audit.Text(member(v, path...))
	return t
}

// requestKey is what the stages of one request have in common. auditID alone will not do: clients choose it.
type requestKey struct{ cluster, id, user, as, verb, uri string }

func keyOf(ev *audit.Event) requestKey {
	return requestKey{ev.Cluster, ev.AuditID, ev.User.Username, ev.Impersonated.Username, ev.Verb, ev.RequestURI}
}

// clone copies the key's strings, so that it does not keep the event alive.
func (k requestKey) clone() requestKey {
	return requestKey{strings.Clone(k.cluster), strings.Clone(k.id), strings.Clone(k.user), strings.Clone(k.as), strings.Clone(k.verb), strings.Clone(k.uri)}
}

// collector makes acts of events that come in any order.
type collector struct {
	acts []*Act
	open map[requestKey][]*Act // acts by request; several where an auditID was used again
}

// add takes one event's act. A stage of a request that is known already makes that act better; a stage seen twice is another
// request.
func (c *collector) add(ev *audit.Event, a *Act) {
	bit := uint(1) << stageRank(ev.Stage)
	key := keyOf(ev)
	for _, known := range c.open[key] {
		if known.stages&bit != 0 {
			continue
		}
		known.stages |= bit
		stages := known.stages
		if a.stage > known.stage {
			*known = *a
			known.stages = stages
		}
		return
	}
	a.stages = bit
	if c.open == nil {
		c.open = map[requestKey][]*Act{}
	}
	key = key.clone()
	c.open[key] = append(c.open[key], a)
	c.acts = append(c.acts, a)
}
