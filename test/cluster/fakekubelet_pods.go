package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
)

const (
	podWorkers  = 4
	jobRunsFor  = 1500 * time.Millisecond // how long the containers of pods that do not restart "run"
	badImageTag = "nonexistent"           // images whose name contains it cannot be pulled
)

// pods keeps the pods of one node at what their specs say.
type pods struct {
	*node
	store cache.Store
	queue workqueue.TypedRateLimitingInterface[string]

	mu    sync.Mutex
	steps map[types.UID]step // how far each pod got: the cache lags behind what was posted
	held  map[string]bool    // images that the node has pulled
	ips   int
}

// step is how far a pod got. Events are written once, a status is posted once.
type step int

const (
	stepStarting step = iota + 1 // events of the start are written
	stepStarted                  // status of the start is posted
	stepStopping                 // events of the end are written
)

func newPods(n *node) *pods {
	return &pods{node: n, steps: map[types.UID]step{}, held: map[string]bool{},
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())}
}

// run watches the node's pods until ctx is done.
func (p *pods) run(ctx context.Context) {
	enqueue := func(o any) {
		if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
			p.queue.Add(key)
		}
	}
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(p.api.CoreV1().RESTClient(), "pods", "", fields.OneTermEqualSelector("spec.nodeName", p.name)),
		ObjectType:    &v1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    enqueue,
			UpdateFunc: func(_, o any) { enqueue(o) },
			DeleteFunc: func(o any) {
				if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = d.Obj
				}
				if pod, ok := o.(*v1.Pod); ok {
					p.mu.Lock()
					delete(p.steps, pod.UID)
					p.mu.Unlock()
				}
			},
		},
	})
	p.store = store
	var wg sync.WaitGroup
	for range podWorkers {
		wg.Go(func() {
			for p.next(ctx) {
			}
		})
	}
	informer.RunWithContext(ctx)
	p.queue.ShutDown()
	wg.Wait()
}

func (p *pods) next(ctx context.Context) bool {
	key, closed := p.queue.Get()
	if closed {
		return false
	}
	defer p.queue.Done(key)
	o, exists, err := p.store.GetByKey(key)
	if err == nil && exists {
		err = p.sync(ctx, key, o.(*v1.Pod))
	}
	// Not found and conflict mean that the pod went or changed meanwhile: the watch says so soon.
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) || ctx.Err() != nil {
		p.queue.Forget(key)
		return true
	}
	p.warn("sync pod "+key, err)
	p.queue.AddRateLimited(key)
	return true
}

func (p *pods) sync(ctx context.Context, key string, pod *v1.Pod) error {
	switch {
	case pod.DeletionTimestamp != nil:
		return p.finish(ctx, pod)
	case pod.Status.Phase == v1.PodPending || pod.Status.Phase == "":
		return p.start(ctx, pod)
	case pod.Status.Phase != v1.PodRunning:
		return nil
	}
	if len(pod.Spec.EphemeralContainers) > len(pod.Status.EphemeralContainerStatuses) {
		return p.startEphemeral(ctx, pod)
	}
	if pod.Spec.RestartPolicy == v1.RestartPolicyAlways || pod.Status.StartTime == nil {
		return nil
	}
	if rest := time.Until(pod.Status.StartTime.Add(jobRunsFor)); rest > 0 {
		p.queue.AddAfter(key, rest)
		return nil
	}
	return p.complete(ctx, pod)
}

// reach moves the pod on to step to and reports whether it was not there yet.
func (p *pods) reach(pod *v1.Pod, to step) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.steps[pod.UID] >= to {
		return false
	}
	p.steps[pod.UID] = to
	return true
}

func (p *pods) reached(pod *v1.Pod, s step) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.steps[pod.UID] >= s
}

// finish removes a terminating pod, as a kubelet does once its containers have stopped.
func (p *pods) finish(ctx context.Context, pod *v1.Pod) error {
	if p.reach(pod, stepStopping) {
		for _, c := range pod.Spec.Containers {
			p.event(ctx, pod, v1.EventTypeNormal, "Killing", "Stopping container "+c.Name)
		}
		if err := p.patch(ctx, pod, map[string]any{"phase": v1.PodSucceeded}); err != nil {
			return err
		}
	}
	return p.api.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0), Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
}

func (p *pods) startEphemeral(ctx context.Context, pod *v1.Pod) error {
	var statuses []map[string]any
	for _, e := range pod.Spec.EphemeralContainers {
		statuses = append(statuses, map[string]any{"name": e.Name, "image": e.Image, "imageID": e.Image, "restartCount": 0, "ready": false,
			"state": map[string]any{"running": map[string]any{"startedAt": metav1.Now()}}})
	}
	return p.patch(ctx, pod, map[string]any{"ephemeralContainerStatuses": statuses})
}

// start fetches what the pod mounts and posts that its containers run, or that their image cannot be pulled.
func (p *pods) start(ctx context.Context, pod *v1.Pod) error {
	if p.reached(pod, stepStarted) {
		return nil
	}
	first := p.reach(pod, stepStarting)
	if first {
		if err := p.mounts(ctx, pod); err != nil {
			p.warn("fetch volumes of "+pod.Namespace+"/"+pod.Name, err) // missing ones keep a real pod waiting; not ours
		}
	}
	now, bad := metav1.Now(), false
	var statuses []map[string]any
	for _, c := range pod.Spec.Containers {
		if strings.Contains(c.Image, badImageTag) {
			bad = true
		}
		statuses = append(statuses, p.startContainer(ctx, pod, c, now, first))
	}
	phase, ready := v1.PodRunning, v1.ConditionTrue
	if bad {
		phase, ready = v1.PodPending, v1.ConditionFalse
	}
	condition := func(t v1.PodConditionType, s v1.ConditionStatus) map[string]any {
		return map[string]any{"type": t, "status": s, "lastTransitionTime": now}
	}
	ip := p.nextIP()
	err := p.patch(ctx, pod, map[string]any{
		"phase": phase, "hostIP": p.address, "podIP": ip, "podIPs": []map[string]any{{"ip": ip}}, "startTime": now,
		"containerStatuses": statuses,
		"conditions":        []any{condition(v1.PodInitialized, v1.ConditionTrue), condition(v1.PodReady, ready), condition(v1.ContainersReady, ready)},
	})
	if err == nil {
		p.reach(pod, stepStarted)
	}
	return err
}

func (p *pods) startContainer(ctx context.Context, pod *v1.Pod, c v1.Container, now metav1.Time, tell bool) map[string]any {
	if strings.Contains(c.Image, badImageTag) {
		if tell {
			p.event(ctx, pod, v1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: not found", c.Image))
		}
		return map[string]any{"name": c.Name, "image": c.Image, "imageID": "", "ready": false, "restartCount": 0,
			"state": map[string]any{"waiting": map[string]any{"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}
	}
	if tell {
		p.pull(ctx, pod, c)
		p.event(ctx, pod, v1.EventTypeNormal, "Created", "Created container "+c.Name)
		p.event(ctx, pod, v1.EventTypeNormal, "Started", "Started container "+c.Name)
	}
	return map[string]any{"name": c.Name, "image": c.Image, "imageID": "sha256:" + strings.Repeat("ab", 32),
		"containerID": fmt.Sprintf("containerd://%016x%016x", rand.Uint64(), rand.Uint64()),
		"ready":       true, "started": true, "restartCount": 0,
		"state": map[string]any{"running": map[string]any{"startedAt": now}}}
}

// pull writes the events of an image's way to the node, in the real kubelet's words.
func (p *pods) pull(ctx context.Context, pod *v1.Pod, c v1.Container) {
	p.mu.Lock()
	held := p.held[c.Image]
	p.held[c.Image] = true
	p.mu.Unlock()
	if held && c.ImagePullPolicy != v1.PullAlways {
		p.event(ctx, pod, v1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine", c.Image))
		return
	}
	p.event(ctx, pod, v1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	p.event(ctx, pod, v1.EventTypeNormal, "Pulled",
		fmt.Sprintf("Successfully pulled image %q in 412ms (412ms including waiting). Image size: 41532160 bytes.", c.Image))
}

// complete posts that the containers of a pod that does not restart ended well.
func (p *pods) complete(ctx context.Context, pod *v1.Pod) error {
	var statuses []map[string]any
	for _, c := range pod.Status.ContainerStatuses {
		statuses = append(statuses, map[string]any{"name": c.Name, "image": c.Image, "imageID": c.ImageID, "containerID": c.ContainerID,
			"ready": false, "started": false, "restartCount": 0,
			"state": map[string]any{"running": nil, "terminated": map[string]any{"exitCode": 0, "reason": "Completed",
				"startedAt": pod.Status.StartTime, "finishedAt": metav1.Now(), "containerID": c.ContainerID}}})
	}
	return p.patch(ctx, pod, map[string]any{"phase": v1.PodSucceeded, "containerStatuses": statuses,
		"conditions": []any{map[string]any{"type": v1.PodReady, "status": v1.ConditionFalse, "reason": "PodCompleted", "lastTransitionTime": metav1.Now()}}})
}

// mounts makes the requests that a kubelet makes for a pod's volumes: tokens, secrets, config maps.
func (p *pods) mounts(ctx context.Context, pod *v1.Pod) error {
	core := p.api.CoreV1()
	var errs []error
	for _, v := range pod.Spec.Volumes {
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.ServiceAccountToken == nil {
					continue
				}
				_, err := core.ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, &authenticationv1.TokenRequest{
					Spec: authenticationv1.TokenRequestSpec{
						ExpirationSeconds: s.ServiceAccountToken.ExpirationSeconds,
						BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
					}}, metav1.CreateOptions{})
				errs = append(errs, err)
			}
		}
		if v.Secret != nil {
			_, err := core.Secrets(pod.Namespace).Get(ctx, v.Secret.SecretName, metav1.GetOptions{})
			errs = append(errs, err)
		}
		if v.ConfigMap != nil {
			_, err := core.ConfigMaps(pod.Namespace).Get(ctx, v.ConfigMap.Name, metav1.GetOptions{})
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// nextIP makes addresses up; nothing answers there.
func (p *pods) nextIP() string {
	h := fnv.New32a()
	h.Write([]byte(p.name)) // never fails
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ips++
	return fmt.Sprintf("10.244.%d.%d", h.Sum32()%256, 2+p.ips%250)
}

func (p *pods) event(ctx context.Context, pod *v1.Pod, kind, reason, message string) {
	now := metav1.Now()
	_, err := p.api.CoreV1().Events(pod.Namespace).Create(ctx, &v1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", pod.Name, time.Now().UnixNano()), Namespace: pod.Namespace},
		InvolvedObject: v1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
		Reason:         reason, Message: message, Type: kind, FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: v1.EventSource{Component: "kubelet", Host: p.name}, ReportingController: "kubelet", ReportingInstance: p.name,
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) { // the namespace is going away
		p.warn("write event", err)
	}
}

func (p *pods) patch(ctx context.Context, pod *v1.Pod, status map[string]any) error {
	b, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return err
	}
	_, err = p.api.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, b, metav1.PatchOptions{}, "status")
	return err
}
