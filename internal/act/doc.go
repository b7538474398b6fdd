// Package act does guarded things to Kubernetes because of findings: each action is off until it is configured, and then only asks the
// API server for a dry run until it is told otherwise.
//
// # One attempt
//
// There is one attempt for an event and an action, whatever rules and restarts bring it again: the intent is on disk before the
// first request, the outcome behind it. An intent without outcome is one that a crash interrupted; it is reported and not tried
// again. Each outcome is a finding of the rule whodunit-action-NAME.
//
// # Not a weapon
//
// Findings are made of what attackers do, so an attacker chooses when actions are set off, and within limits on what. So:
//
//   - A request that was refused sets off nothing that touches its object: who may not touch an object may not have us do it. The
//     exceptions tell (event, webhook) or are about the one who asked (revoke_token), whom the API server authenticated. Dry runs of
//     others set off nothing.
//   - Never in kube-system, kube-public, kube-node-lease, or the namespace that we run in; nothing outside the namespaces that an
//     action lists; nothing without a namespace (nodes, cluster role bindings) unless the action says so.
//   - Names come from requests: they are checked before a path is built of them, "..", slashes and escapes are refused.
//   - A name is not an object: it is looked up first, must have the uid of the event, or be older than the event where that has none,
//     and the request carries the uid (and for reverting the resourceVersion), so that a namesake made since is not hit.
//   - Nothing that is older than MaxAge: a replayed or imported log sets off nothing. What was attempted counts for the rate and the
//     cooldown after a restart too.
//   - Cluster role bindings system:* and cluster-admin, those that the API server maintains, and bindings for our own account alone
//     are left alone. A binding is only deleted by the event that made it, and only subjects are taken away that a recorded event does
//     not show. What the change itself took away stays away: to give it back would give access.
//   - At least half of the nodes, and one, stay schedulable.
//   - One quarantine policy for a namespace, one Event for an outcome: nothing piles up.
//   - We revoke only what the API server says the token was bound to, never of impersonated users, whose details the client writes.
//   - Labels and annotations have keys of the configuration; values are cut down to what Kubernetes takes.
//
// What is left: who may create pods in an allowed namespace can name a workload of that namespace as a pod's owner and have it scaled
// to zero, or name a node and have it cordoned; who can feed us events can set off actions, so sources need authentication. Allowed
// namespaces, the rate and the cooldown bound all of it. A pattern such as "*" reaches the namespaces of network and storage plugins.
// NetworkPolicies only add up: a quarantined pod that another policy selects keeps what that one allows, and the outcome says so.
//
// # No loops
//
// Our own requests carry an Audit-ID with a MAC over cluster, method and URI, by a key that only we have. Own tells them by it and by
// our user name; the detector passes them over. As a second guard, findings about our own account and findings about actions set off
// nothing. What controllers do because of us (a ReplicaSet replaces a deleted pod) are requests of theirs: the rate bounds those.
package act
