package act

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// QuarantineLabel is the label that cuts a pod off. Its value is the finding; who takes it off ends the quarantine.
const QuarantineLabel = "whodunit.dev/quarantine"

// quarantinePolicy is the name of the NetworkPolicy for it, one in a namespace.
const quarantinePolicy = "whodunit-quarantine"

const pageSize = 500

// do makes the requests of an action, and says what there is to say beside that it was done.
func (j *job) do(ctx context.Context) (string, error) {
	switch j.Kind {
	case Label, Annotate:
		return "", j.mark(ctx)
	case DeletePod:
		return "", j.deletePod(ctx)
	case Evict:
		return "", j.evict(ctx)
	case ScaleToZero:
		return j.scale(ctx)
	case Cordon:
		return j.cordon(ctx)
	case DeleteBinding:
		return "", j.deleteBinding(ctx)
	case RevertBinding:
		return j.revertBinding(ctx)
	case RevokeToken:
		return j.revoke(ctx)
	case Quarantine:
		return j.quarantine(ctx)
	case Event:
		return "", j.event(ctx)
	case Webhook:
		return j.webhook(ctx)
	}
	return "", cannot("kind %s is not known", j.Kind)
}

// live looks the target up. An error says that it is not the object that the event is about.
func (j *job) live(ctx context.Context) (*object, error) {
	var o object
	if err := j.c.get(ctx, j.t.path(), nil, &o); err != nil {
		return nil, err
	}
	return &o, j.same(&o)
}

// same: the object has the uid of the event or, where that has none, is older than the event.
func (j *job) same(o *object) error {
	if o.Metadata.UID == "" {
		return fmt.Errorf("the API server does not say the uid of %s", j.t)
	}
	if j.t.uid != "" {
		if o.Metadata.UID != j.t.uid {
			return deny("%s is another object now: it was replaced since", j.t)
		}
		return nil
	}
	made, err := time.Parse(time.RFC3339, o.Metadata.CreationTimestamp)
	if err != nil {
		return fmt.Errorf("cannot read when %s was made: %w", j.t, err)
	}
	if made.After(j.ev.Time()) {
		return deny("%s is another object now: it was made after the event", j.t)
	}
	return nil
}

func (j *job) dry() bool { return !j.Live }

// patch merges the change into the object at path, if it has the uid still.
func (j *job) patch(ctx context.Context, path, uid string, change map[string]any) error {
	meta, _ := change["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	meta["uid"] = uid
	change["metadata"] = meta
	return j.c.send(ctx, http.MethodPatch, path, j.dry(), change, nil)
}

// remove deletes the object at path, under the preconditions.
func (j *job) remove(ctx context.Context, path string, preconditions map[string]string) error {
	options := map[string]any{"apiVersion": "v1", "kind": "DeleteOptions"}
	if len(preconditions) > 0 {
		options["preconditions"] = preconditions
	}
	j.only(options)
	return j.c.send(ctx, http.MethodDelete, path, j.dry(), options, nil)
}

// only makes DeleteOptions those of a dry run. Where a request has them as its body, the API server does not look at the query.
func (j *job) only(options map[string]any) {
	if j.dry() {
		options["dryRun"] = []string{"All"}
	}
}

func (j *job) mark(ctx context.Context) error {
	o, err := j.live(ctx)
	if err != nil {
		return err
	}
	meta := map[string]any{}
	if j.Kind == Label {
		meta["labels"] = j.values(j.Labels, labelValue)
	} else {
		meta["annotations"] = j.values(j.Annotations, func(s string) string { return clean(s, maxMessage) })
	}
	return j.patch(ctx, j.t.path(), o.Metadata.UID, map[string]any{"metadata": meta})
}

// values fills in what the finding says; fit makes the result one that Kubernetes takes.
func (j *job) values(m map[string]string, fit func(string) string) map[string]string {
	fill := strings.NewReplacer("{rule}", j.f.Rule, "{user}", j.f.Event.User.Username, "{finding}", j.f.ID)
	out := maps.Clone(m)
	for k, v := range out {
		out[k] = fit(fill.Replace(v))
	}
	return out
}

const longestLabel = 63

// labelValue makes a label's value of any text: at most 63 letters, digits, and -_. between them.
func labelValue(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
			return r
		}
		return '-'
	}, s)
	s = strings.TrimLeft(s, "-._")
	return strings.TrimRight(s[:min(len(s), longestLabel)], "-._")
}

func (j *job) deletePod(ctx context.Context) error {
	o, err := j.live(ctx)
	if err != nil {
		return err
	}
	return j.remove(ctx, j.t.path(), map[string]string{"uid": o.Metadata.UID})
}

func (j *job) evict(ctx context.Context) error {
	o, err := j.live(ctx)
	if err != nil {
		return err
	}
	options := map[string]any{"preconditions": map[string]string{"uid": o.Metadata.UID}}
	j.only(options)
	return j.c.send(ctx, http.MethodPost, j.t.path()+"/eviction", j.dry(), map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]string{"name": j.t.name, "namespace": j.t.namespace}, "deleteOptions": options,
	}, nil)
}

// workloads are the kinds of controllers that can be scaled, and their resources.
var workloads = map[string]string{"Deployment": "deployments", "StatefulSet": "statefulsets", "ReplicaSet": "replicasets"}

// scale follows the controllers up to one that nothing controls: scaled down below, it would be scaled up from above.
func (j *job) scale(ctx context.Context) (string, error) {
	t := j.t
	o, err := j.live(ctx)
	if err != nil {
		return "", err
	}
	for range 3 {
		i := slices.IndexFunc(o.Metadata.OwnerReferences, func(r owner) bool { return r.Controller })
		if i < 0 {
			break
		}
		up := o.Metadata.OwnerReferences[i]
		if up.APIVersion != "apps/v1" || workloads[up.Kind] == "" || !isName(up.Name) {
			return "", cannot("%s is controlled by %s %s, which cannot be scaled", t, clean(up.Kind, 60), clean(up.Name, 100))
		}
		t = target{cluster: t.cluster, group: "apps", version: "v1", resource: workloads[up.Kind], namespace: t.namespace, name: up.Name}
		o = &object{}
		if err := j.c.get(ctx, t.path(), nil, o); err != nil {
			return "", err
		}
		if o.Metadata.UID == "" || o.Metadata.UID != up.UID {
			return "", deny("%s is another object than the one that controls it", t)
		}
	}
	if t.resource == "pods" {
		return "", cannot("nothing controls %s, so there is nothing to scale", t)
	}
	return t.String(), j.patch(ctx, t.path()+"/scale", o.Metadata.UID, map[string]any{"spec": map[string]int{"replicas": 0}})
}

func (j *job) cordon(ctx context.Context) (string, error) {
	name := j.t.name
	uid := ""
	if o, err := j.live(ctx); err != nil {
		return "", err
	} else if j.t.resource == "pods" {
		if name = o.Spec.NodeName; name == "" {
			return "", cannot("%s is on no node", j.t)
		}
	} else {
		uid = o.Metadata.UID
	}
	total, left := 0, 0
	var node *object
	err := j.nodes(ctx, func(o *object) {
		total++
		if o.Metadata.Name == name && (uid == "" || o.Metadata.UID == uid) {
			node = o
		} else if schedulable(o) {
			left++
		}
	})
	t := target{cluster: j.t.cluster, version: "v1", resource: "nodes", name: name}
	switch {
	case err != nil:
		return "", err
	case node == nil || !isName(name):
		return "", cannot("there is no node %s", clean(name, 100))
	case node.Spec.Unschedulable:
		return t.String() + " was cordoned before", nil
	case left == 0 || 2*left < total:
		return "", deny("without %s only %d of %d nodes would be schedulable", t, left, total)
	}
	return t.String(), j.patch(ctx, t.path(), node.Metadata.UID, map[string]any{"spec": map[string]bool{"unschedulable": true}})
}

// nodes goes through all nodes.
func (j *job) nodes(ctx context.Context, f func(*object)) error {
	query := url.Values{"limit": {fmt.Sprint(pageSize)}}
	for {
		var list struct {
			Metadata struct{ Continue string }
			Items    []*object
		}
		if err := j.c.get(ctx, "/api/v1/nodes", query, &list); err != nil {
			return err
		}
		for _, o := range list.Items {
			f(o)
		}
		if list.Metadata.Continue == "" {
			return nil
		}
		query.Set("continue", list.Metadata.Continue)
	}
}

// schedulable reports whether a pod without tolerations could be put on a node.
func schedulable(o *object) bool {
	ready := false
	for _, c := range o.Status.Conditions {
		ready = ready || c.Type == "Ready" && c.Status == "True"
	}
	for _, t := range o.Spec.Taints {
		ready = ready && t.Effect != "NoSchedule" && t.Effect != "NoExecute"
	}
	return ready && !o.Spec.Unschedulable
}

func (j *job) revoke(ctx context.Context) (string, error) {
	path, conditions := j.t.path(), map[string]string{}
	if j.t.uid != "" { // of a pod; a token's secret is known by the name alone, and we may not read secrets
		conditions["uid"] = j.t.uid
	}
	_, account, _ := serviceAccount(j.ev.User.Username)
	return "a token of service account " + account + " was bound to it", j.remove(ctx, path, conditions)
}

// quarantine makes the namespace's policy, which selects nothing at first, and then labels the pod.
func (j *job) quarantine(ctx context.Context) (string, error) {
	o, err := j.live(ctx)
	if err != nil {
		return "", err
	}
	policies := "/apis/networking.k8s.io/v1/namespaces/" + j.t.namespace + "/networkpolicies"
	others, exists, err := j.policies(ctx, policies, o)
	if err != nil {
		return "", err
	}
	if !exists {
		err := j.c.send(ctx, http.MethodPost, policies, j.dry(), map[string]any{
			"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": map[string]any{"name": quarantinePolicy,
				"labels": map[string]string{"app.kubernetes.io/managed-by": "whodunit"}},
			"spec": denyAll(),
		}, nil)
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return "", err
		}
	}
	text := ""
	if others > 0 {
		text = fmt.Sprintf("%d other network policies select the pod: what they allow stays allowed", others)
	}
	return text, j.patch(ctx, j.t.path(), o.Metadata.UID, map[string]any{"metadata": map[string]any{"labels": map[string]string{QuarantineLabel: labelValue(j.f.ID)}}})
}

// policySpec is what we read of a NetworkPolicy.
type policySpec struct {
	PodSelector metav1.LabelSelector `json:"podSelector"`
	PolicyTypes []string             `json:"policyTypes"`
	Ingress     []any                `json:"ingress,omitempty"`
	Egress      []any                `json:"egress,omitempty"`
}

// denyAll selects the pods in quarantine and allows nothing.
func denyAll() policySpec {
	return policySpec{PolicyTypes: []string{"Ingress", "Egress"}, PodSelector: metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: QuarantineLabel, Operator: metav1.LabelSelectorOpExists}}}}
}

// policies counts the policies that select the pod, but for ours, and says whether that exists. One of its name that is another is an error.
func (j *job) policies(ctx context.Context, path string, pod *object) (others int, exists bool, err error) {
	query := url.Values{"limit": {fmt.Sprint(pageSize)}}
	for {
		var list struct {
			Metadata struct{ Continue string }
			Items    []struct {
				Metadata struct{ Name string }
				Spec     policySpec
			}
		}
		if err := j.c.get(ctx, path, query, &list); err != nil {
			return 0, false, err
		}
		for i := range list.Items {
			p := &list.Items[i]
			if p.Metadata.Name == quarantinePolicy {
				exists = true
				if !p.Spec.deniesAll() {
					return 0, false, fmt.Errorf("network policy %s of namespace %s is not ours: it does not cut off what it selects", quarantinePolicy, j.t.namespace)
				}
				continue
			}
			sel, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
			if err == nil && sel.Matches(labels.Set(pod.Metadata.Labels)) {
				others++
			}
		}
		if list.Metadata.Continue == "" {
			return others, exists, nil
		}
		query.Set("continue", list.Metadata.Continue)
	}
}

func (s *policySpec) deniesAll() bool {
	in := labels.Set{QuarantineLabel: "x"}
	sel, err := metav1.LabelSelectorAsSelector(&s.PodSelector)
	return err == nil && sel.Matches(in) && len(s.Ingress) == 0 && len(s.Egress) == 0 && len(s.PolicyTypes) == 2
}
