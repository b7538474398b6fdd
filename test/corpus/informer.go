package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// object is a Kubernetes object or a part of one.
type object = map[string]any

// informer lists a resource once and then watches it, as controllers do.
type informer struct {
	c       *client
	path    string
	version string
}

// next is one watch, until the server ends it.
func (f *informer) next(ctx context.Context, seconds int) error {
	type meta struct {
		Metadata struct{ ResourceVersion string }
	}
	if f.version == "" {
		var list meta
		if err := f.c.do(ctx, http.MethodGet, f.path+"?limit=500&resourceVersion=0", nil, &list); err != nil {
			return err
		}
		f.version = list.Metadata.ResourceVersion
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s%s?allowWatchBookmarks=true&resourceVersion=%s&timeoutSeconds=%d&watch=true",
		f.c.url, f.path, f.version, seconds), http.NoBody)
	if err != nil {
		return err
	}
	f.c.headers(req)
	resp, err := f.c.hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		f.version = ""
		return fmt.Errorf("%w: watch %s: %s", errStatus, f.path, resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var event struct {
			Type   string
			Object meta
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return err
		}
		if f.version = event.Object.Metadata.ResourceVersion; event.Type == "ERROR" {
			f.version = ""
		}
	}
	return lines.Err()
}

// watch keeps informers of a program going.
func (c *crew) watch(ctx context.Context, name string, cl *client, seconds int, paths ...string) {
	for i, path := range paths {
		f := &informer{c: cl, path: path}
		c.every(ctx, name+" watches", 100*time.Millisecond, func(ctx context.Context, _ int) error { return f.next(ctx, seconds+7*(i%5)) })
	}
}

// lead keeps a leader's lease.
func (c *crew) lead(ctx context.Context, cl *client, ns, name, holder string) {
	path := "/apis/coordination.k8s.io/v1/namespaces/" + ns + "/leases"
	var lease object
	c.every(ctx, name+" leads", 2*time.Second, func(ctx context.Context, _ int) error {
		now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
		if lease == nil {
			if cl.do(ctx, http.MethodGet, path+"/"+name, nil, &lease) == nil {
				return nil
			}
			return cl.do(ctx, http.MethodPost, path, object{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": object{"name": name, "namespace": ns},
				"spec": object{"holderIdentity": holder, "leaseDurationSeconds": 15, "acquireTime": now, "renewTime": now, "leaseTransitions": 0}}, &lease)
		}
		lease["spec"].(object)["renewTime"] = now
		var next object
		err := cl.do(ctx, http.MethodPut, path+"/"+name, lease, &next)
		lease = next // nil after an error: it is read again
		return err
	})
}
