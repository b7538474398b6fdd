package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	v1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// call is one call to make: by whom, on which object, with whose random numbers.
type call struct {
	api      kubernetes.Interface
	ns, name string
	r        *rand.Rand
}

// op is one kind of call with its weight among the reading or the writing ones.
type op struct {
	name   string
	weight int
	do     func(ctx context.Context, c call) error
}

// opMix picks kinds of calls by weight.
type opMix struct {
	reads, writes []op
	share         float64 // of writes
}

// chooseOps is the mix with the given share of writes, or the single kind that only names.
func chooseOps(only string, share float64) (opMix, error) {
	m := opMix{reads: readOps(), writes: append(configOps(), workloadOps()...), share: share}
	if only == "" {
		return m, nil
	}
	for _, o := range m.reads {
		if o.name == only {
			return opMix{reads: []op{o}}, nil
		}
	}
	for _, o := range m.writes {
		if o.name == only {
			return opMix{writes: []op{o}, share: 1}, nil
		}
	}
	return opMix{}, fmt.Errorf("there is no call named %q", only)
}

func (m opMix) pick(r *rand.Rand) op {
	ops := m.reads
	if r.Float64() < m.share {
		ops = m.writes
	}
	total := 0
	for _, o := range ops {
		total += o.weight
	}
	x := r.IntN(total)
	for _, o := range ops {
		if x -= o.weight; x < 0 {
			return o
		}
	}
	return ops[0] // not reached: x is below the sum
}

func configOps() []op {
	return []op{
		{"create-cm", 10, func(ctx context.Context, c call) error {
			_, err := c.api.CoreV1().ConfigMaps(c.ns).Create(ctx, configMap(c), metav1.CreateOptions{})
			return err
		}},
		{"update-cm", 8, func(ctx context.Context, c call) error {
			_, err := c.api.CoreV1().ConfigMaps(c.ns).Update(ctx, configMap(c), metav1.UpdateOptions{})
			return err
		}},
		{"patch-cm", 8, func(ctx context.Context, c call) error {
			patch := fmt.Appendf(nil, `{"data":{"mode":"m%d"}}`, c.r.IntN(9))
			_, err := c.api.CoreV1().ConfigMaps(c.ns).Patch(ctx, c.name, types.MergePatchType, patch, metav1.PatchOptions{})
			return err
		}},
		{"delete-cm", 5, func(ctx context.Context, c call) error {
			return c.api.CoreV1().ConfigMaps(c.ns).Delete(ctx, c.name, metav1.DeleteOptions{})
		}},
		{"delcoll-cm", 1, func(ctx context.Context, c call) error {
			return c.api.CoreV1().ConfigMaps(c.ns).DeleteCollection(ctx, metav1.DeleteOptions{},
				metav1.ListOptions{LabelSelector: "env=prod", FieldSelector: "metadata.name=" + c.name})
		}},
		{"create-secret", 4, func(ctx context.Context, c call) error {
			_, err := c.api.CoreV1().Secrets(c.ns).Create(ctx, &v1.Secret{
				ObjectMeta: metav1.ObjectMeta{Name: c.name}, StringData: map[string]string{"p": "s"}}, metav1.CreateOptions{})
			return err
		}},
		{"delete-secret", 3, func(ctx context.Context, c call) error {
			return c.api.CoreV1().Secrets(c.ns).Delete(ctx, c.name, metav1.DeleteOptions{})
		}},
		{"ssar", 4, func(ctx context.Context, c call) error {
			_, err := c.api.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
				Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: c.ns, Verb: "delete", Resource: "secrets"}}}, metav1.CreateOptions{})
			return err
		}},
		{"crb", 1, func(ctx context.Context, c call) error { // refused to all who may only edit
			_, err := c.api.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: c.name},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"}}, metav1.CreateOptions{})
			return err
		}},
	}
}

func workloadOps() []op {
	return []op{
		{"create-deploy", 6, func(ctx context.Context, c call) error {
			_, err := c.api.AppsV1().Deployments(c.ns).Create(ctx, deployment(c), metav1.CreateOptions{})
			return err
		}},
		{"patch-deploy", 8, func(ctx context.Context, c call) error {
			patch := fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"registry.example.test/web:2.%d"}]}}}}`, c.r.IntN(99))
			_, err := c.api.AppsV1().Deployments(c.ns).Patch(ctx, c.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			return err
		}},
		{"apply-deploy", 5, func(ctx context.Context, c call) error {
			patch := fmt.Appendf(nil, `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":%[1]q},"spec":{"replicas":0,`+
				`"selector":{"matchLabels":{"app":%[1]q}},"template":{"metadata":{"labels":{"app":%[1]q}},`+
				`"spec":{"containers":[{"name":"web","image":"w:%[2]d"}]}}}}`, c.name, c.r.IntN(99))
			_, err := c.api.AppsV1().Deployments(c.ns).Patch(ctx, c.name, types.ApplyPatchType, patch,
				metav1.PatchOptions{FieldManager: "argocd", Force: ptr.To(true)})
			return err
		}},
		{"delete-deploy", 4, func(ctx context.Context, c call) error {
			return c.api.AppsV1().Deployments(c.ns).Delete(ctx, c.name, metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)})
		}},
		{"create-pod", 6, func(ctx context.Context, c call) error {
			_, err := c.api.CoreV1().Pods(c.ns).Create(ctx, unscheduledPod(c.name), metav1.CreateOptions{})
			return err
		}},
		{"delete-pod", 5, func(ctx context.Context, c call) error {
			return c.api.CoreV1().Pods(c.ns).Delete(ctx, c.name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
		}},
	}
}

func readOps() []op {
	return []op{
		{"get-cm", 20, func(ctx context.Context, c call) error {
			_, err := c.api.CoreV1().ConfigMaps(c.ns).Get(ctx, c.name, metav1.GetOptions{})
			return err
		}},
		{"get-deploy", 15, func(ctx context.Context, c call) error {
			_, err := c.api.AppsV1().Deployments(c.ns).Get(ctx, c.name, metav1.GetOptions{})
			return err
		}},
		{"get-secret", 8, func(ctx context.Context, c call) error {
			_, err := c.api.CoreV1().Secrets(c.ns).Get(ctx, c.name, metav1.GetOptions{})
			return err
		}},
		{"get-sa", 8, func(ctx context.Context, c call) error {
			_, err := c.api.CoreV1().ServiceAccounts(c.ns).Get(ctx, "default", metav1.GetOptions{})
			return err
		}},
		{"list-pods", 2, func(ctx context.Context, c call) error {
			_, err := c.api.CoreV1().Pods(c.ns).List(ctx, metav1.ListOptions{Limit: 5})
			return err
		}},
		{"list-secrets", 2, func(ctx context.Context, c call) error {
			_, err := c.api.CoreV1().Secrets(c.ns).List(ctx, metav1.ListOptions{Limit: 50})
			return err
		}},
		{"list-nodes", 1, func(ctx context.Context, c call) error {
			_, err := c.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{Limit: 1})
			return err
		}},
		{"watch-cm", 1, watchBriefly},
	}
}

// watchBriefly opens a watch and leaves it, as impatient clients do.
func watchBriefly(ctx context.Context, c call) error {
	w, err := c.api.CoreV1().ConfigMaps(c.ns).Watch(ctx, metav1.ListOptions{TimeoutSeconds: ptr.To[int64](1), FieldSelector: "metadata.name=" + c.name})
	if err != nil {
		return err
	}
	defer w.Stop()
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
	return nil
}

func loadLabels() map[string]string {
	return map[string]string{"app": "web", "team": "payments", "env": "prod"}
}

func configMap(c call) *v1.ConfigMap {
	return &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: c.name, Labels: loadLabels()}, Data: map[string]string{
		"mode": "prod", "config.yaml": strings.Repeat(fmt.Sprintf("key%d: value\n", c.r.IntN(1000)), 1+c.r.IntN(40))}}
}

func deployment(c call) *appsv1.Deployment {
	build := c.r.IntN(99)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: c.name, Labels: loadLabels(), Annotations: map[string]string{"build": fmt.Sprint(build)}},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](0), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": c.name}},
			Template: v1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": c.name}},
				Spec: v1.PodSpec{Containers: []v1.Container{{
					Name: "web", Image: fmt.Sprintf("registry.example.test/web:1.%d", build),
					Env:   []v1.EnvVar{{Name: "DB_PASSWORD", Value: "cleartext"}, {Name: "A", Value: "b"}},
					Ports: []v1.ContainerPort{{ContainerPort: 8080}},
				}}},
			},
		},
	}
}

// unscheduledPod names a scheduler that does not exist, so that the load stays on the API server.
func unscheduledPod(name string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: loadLabels()}, Spec: v1.PodSpec{
		SchedulerName: "none", Containers: []v1.Container{{Name: "c", Image: "busybox:1.36", Command: []string{"sleep", "3600"}}}}}
}
