package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"
)

// certManager is installed by the administrator from a file; then its programs begin to work, and bob asks for a certificate.
func (c *crew) certManager(ctx context.Context) error {
	if err := c.p.kubectl(ctx, root, manifest("cert-manager"), "apply -f -"); err != nil {
		return err
	}
	if err := c.p.kubectl(ctx, root, "", "rollout status deployment/cert-manager -n cert-manager --timeout=60s"); err != nil {
		return err
	}
	programs := map[string]*client{}
	for _, name := range []string{"cert-manager", "cert-manager-cainjector"} {
		d, err := c.p.login(ctx, "cert-manager", name)
		if err != nil {
			return err
		}
		programs[name] = c.p.program(d, name+"/v1.18.2"+goAgent)
		c.lead(ctx, programs[name], "kube-system", name+"-leader", name+"-0")
	}
	const group = "/apis/cert-manager.io/v1"
	manager, injector := programs["cert-manager"], programs["cert-manager-cainjector"]
	c.watch(ctx, "cert-manager", manager, 60, core+"/secrets", group+"/certificates", group+"/issuers")
	c.watch(ctx, "cert-manager-cainjector", injector, 60, core+"/secrets", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
		"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
	if err := manager.do(ctx, http.MethodPost, core+"/namespaces/cert-manager/secrets", tlsSecret("cert-manager", "cert-manager-webhook-ca"), nil); err != nil {
		return err
	}
	for _, kind := range []string{"validatingwebhookconfigurations", "mutatingwebhookconfigurations"} {
		path := "/apis/admissionregistration.k8s.io/v1/" + kind + "/cert-manager-webhook"
		var hook object
		if err := injector.do(ctx, http.MethodGet, path, nil, &hook); err != nil {
			return err
		}
		for _, w := range hook["webhooks"].([]any) {
			w.(object)["clientConfig"].(object)["caBundle"] = base64.StdEncoding.EncodeToString(c.p.c.CA())
		}
		if err := injector.do(ctx, http.MethodPut, path, hook, nil); err != nil {
			return err
		}
	}
	issuer := "{apiVersion: cert-manager.io/v1, kind: Issuer, metadata: {name: own}, spec: {selfSigned: {}}}"
	if err := c.p.kubectl(ctx, root, issuer, "apply -n shop -f -"); err != nil {
		return err
	}
	for _, name := range []string{"web", "cart", "search", "payments"} {
		cert := fmt.Sprintf("{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {name: %[1]s}, spec: {secretName: %[1]s-tls, dnsNames: [%[1]s.example.test], issuerRef: {name: own}}}", name)
		if err := c.p.kubectl(ctx, bob, cert, "apply -n shop -f -"); err != nil {
			return err
		}
		if err := manager.do(ctx, http.MethodPost, core+"/namespaces/shop/secrets", tlsSecret("shop", name+"-tls"), nil); err != nil {
			return err
		}
	}
	c.every(ctx, "cert-manager", 20*time.Second, func(ctx context.Context, i int) error {
		path := group + "/namespaces/shop/certificates/web"
		var cert object
		if err := manager.do(ctx, http.MethodGet, path, nil, &cert); err != nil {
			return err
		}
		cert["status"] = object{"revision": i + 1, "conditions": []object{{"type": "Ready", "status": "True", "reason": "Ready", "message": "Certificate is up to date and has not expired"}}}
		return manager.do(ctx, http.MethodPut, path+"/status", cert, nil)
	})
	return nil
}

func tlsSecret(ns, name string) object {
	return object{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": object{"name": name, "namespace": ns},
		"stringData": object{"tls.crt": "example-not-a-certificate", "tls.key": "example-not-a-key"}}
}

// ingress is installed by the platform's installer, a service account, as GitOps does.
func (c *crew) ingress(ctx context.Context) error {
	const installer = "system:serviceaccount:platform:installer"
	if err := c.p.kubectl(ctx, installer, manifest("ingress-nginx"), "apply -f -"); err != nil {
		return err
	}
	if err := c.p.kubectl(ctx, installer, "", "rollout status deployment/ingress-nginx-controller -n ingress-nginx --timeout=60s"); err != nil {
		return err
	}
	d, err := c.p.login(ctx, "ingress-nginx", "ingress-nginx")
	if err != nil {
		return err
	}
	nginx := c.p.program(d, "nginx-ingress-controller/v1.13.0"+goAgent)
	c.lead(ctx, nginx, "ingress-nginx", "ingress-nginx-leader", d.name)
	c.watch(ctx, "ingress-nginx", nginx, 60, ingressV+"/ingresses", ingressV+"/ingressclasses", core+"/services", endpointSlices, core+"/secrets", core+"/configmaps")
	for _, name := range []string{"web", "cart", "search"} {
		c.every(ctx, "ingress-nginx", 30*time.Second, func(ctx context.Context, i int) error {
			path := ingressV + "/namespaces/shop/ingresses/" + name
			var in object
			if err := nginx.do(ctx, http.MethodGet, path, nil, &in); err != nil {
				return err
			}
			in["status"] = object{"loadBalancer": object{"ingress": []object{{"ip": fmt.Sprintf("198.51.100.%d", 10+i%2)}}}}
			return nginx.do(ctx, http.MethodPut, path+"/status", in, nil)
		})
	}
	return nil
}
