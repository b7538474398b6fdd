package act

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"whodunit/internal/alert/post"
)

// objectKinds are the kinds of common resources, for Events on objects that the event does not show.
var objectKinds = map[string]string{
	"pods": "Pod", "services": "Service", "configmaps": "ConfigMap", "secrets": "Secret", "serviceaccounts": "ServiceAccount", "nodes": "Node",
	"namespaces": "Namespace", "deployments.apps": "Deployment", "statefulsets.apps": "StatefulSet", "daemonsets.apps": "DaemonSet",
	"replicasets.apps": "ReplicaSet", "jobs.batch": "Job", "cronjobs.batch": "CronJob", "networkpolicies.networking.k8s.io": "NetworkPolicy",
	"roles.rbac.authorization.k8s.io": "Role", "rolebindings.rbac.authorization.k8s.io": "RoleBinding",
	"clusterroles.rbac.authorization.k8s.io": "ClusterRole", "clusterrolebindings.rbac.authorization.k8s.io": "ClusterRoleBinding",
}

// defaultNamespace is where Events on objects without a namespace are.
const defaultNamespace = "default"

// event makes a core/v1 Event, whose name says of which finding it is, so that there is one.
func (j *job) event(ctx context.Context) error {
	kind := objectKinds[j.t.named()]
	if kind == "" && labelKey.MatchString(j.t.kind) && j.t.kind != "Status" {
		kind = j.t.kind
	}
	if kind == "" {
		return cannot("the event does not say of what kind %s is", j.t)
	}
	version := j.t.version
	if j.t.group != "" {
		version = j.t.group + "/" + version
	}
	involved := map[string]string{"apiVersion": version, "kind": kind, "name": j.t.name}
	ns := defaultNamespace
	if j.t.namespace != "" && j.t.resource != "namespaces" {
		ns = j.t.namespace
		involved["namespace"] = ns
	}
	if j.t.uid != "" {
		involved["uid"] = j.t.uid
	}
	at := j.ev.Time().UTC().Format(time.RFC3339)
	name := "whodunit-" + labelValue(j.f.ID) + "-" + j.Name
	err := j.c.send(ctx, http.MethodPost, "/api/v1/namespaces/"+ns+"/events", j.dry(), map[string]any{
		"apiVersion": "v1", "kind": "Event", "metadata": map[string]string{"name": name, "namespace": ns}, "involvedObject": involved,
		"reason": "WhodunitFinding", "message": clean(fmt.Sprintf("%s: %s", j.f.Rule, j.f.Message), maxMessage), "type": "Warning",
		"source": map[string]string{"component": "whodunit"}, "firstTimestamp": at, "lastTimestamp": at, "count": 1,
	}, nil)
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// webhook POSTs the finding, once.
func (j *job) webhook(ctx context.Context) (string, error) {
	b, err := json.Marshal(struct {
		Version string          `json:"version"`
		Action  string          `json:"action"`
		Cluster string          `json:"cluster"`
		Finding json.RawMessage `json:"finding"`
	}{"1", j.Name, j.f.Cluster, j.f.Doc})
	if err != nil {
		return "", fmt.Errorf("cannot encode finding: %w", err)
	}
	if !j.Live {
		return "nothing was sent to " + j.post.Host(), nil
	}
	head := http.Header{}
	key, err := post.Secret(j.Secret, j.SecretFile)
	if err != nil {
		return "", fmt.Errorf("cannot read the webhook's secret: %w", err)
	}
	post.Sign(head, key, time.UnixMicro(j.e.Micros), b)
	_, err = j.post.Do(ctx, post.Request{Header: head, Body: b})
	return "", err
}
