package envelope

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whodunit/internal/audit"
)

// full is an event as an API server logs it.
func full(id string) string {
	return `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"` + id +
		`","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/n/pods?x=\u0026","verb":"list","user":{"username":"alice"},"stageTimestamp":"2026-11-21T10:00:01.000000Z"}`
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func zip(members ...string) string {
	var b bytes.Buffer
	for _, m := range members {
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte(m)); err != nil {
			panic(err)
		}
		if err := w.Close(); err != nil {
			panic(err)
		}
	}
	return b.String()
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func aks(category, log string) string {
	return `{"operationName":"Microsoft.ContainerService/managedClusters/diagnosticLogs/Read","category":"` + category + `","ccpNamespace":"5eb1",` +
		`"resourceId":"/SUBSCRIPTIONS/0/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/PROD-1","properties":{"log":` + log +
		`,"stream":"stdout","pod":"kube-apiserver-5"},"time":"2020-05-05T16:16:37.0000000Z","Cloud":"AzureCloud"}`
}

func cloudwatch(stream string, messages ...string) string {
	var events []string
	for i, m := range messages {
		events = append(events, fmt.Sprintf(`{"id":"%d","timestamp":1432826855000,"message":%s}`, i, quote(m)))
	}
	return `{"messageType":"DATA_MESSAGE","owner":"1234","logGroup":"/aws/eks/blue/cluster","logStream":"` + stream + `","subscriptionFilters":["f"],"logEvents":[` + strings.Join(events, ",") + `]}`
}

const auditStream = eksAudit + "0123456789abcdef"

func gke(id string) string {
	return `{"insertId":"` + id + `","logName":"projects/p/logs/cloudaudit.googleapis.com%2Factivity","protoPayload":{"@type":"type.googleapis.com/google.cloud.audit.AuditLog",` +
		`"serviceName":"k8s.io","methodName":"io.k8s.core.v1.pods.delete","resourceName":"core/v1/namespaces/n/pods/p","authenticationInfo":{"principalEmail":"alice"}},` +
		`"resource":{"type":"k8s_cluster","labels":{"cluster_name":"blue","location":"europe-west1","project_id":"p"}},"timestamp":"2026-11-21T10:00:01.5Z"}`
}

func TestAny(t *testing.T) {
	control := `{"messageType":"CONTROL_MESSAGE","logGroup":"","logStream":"","logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health of destination"}]}`
	hit := func(source string) string {
		return `{"_index":"logstash-2026.11.21","_id":"1","_source":` + source + `}`
	}
	flat := strings.Replace(full("a"), `"verb"`, `"@timestamp":"2026-11-21T10:00:01Z","origin":"kubernetes-api-audit","host":"h","requestObject":"none","responseObject":"{\"kind\":\"PodList\"}","verb"`, 1)
	other := `{"insertId":"x","logName":"l","protoPayload":{"serviceName":"compute.googleapis.com"}}`
	tests := map[string]struct {
		body    string
		want    []string // cluster/auditID
		rejects []string // reasons
		skipped map[string]int
	}{
		"event":                        {body: full("a"), want: []string{"/a"}},
		"event list":                   {body: `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + item("a") + `]}`, want: []string{"/a"}},
		"array":                        {body: " [" + full("a") + ",\n" + aks("kube-audit", quote(full("b"))) + ",{}]", want: []string{"/a", "PROD-1/b"}, rejects: []string{"not_audit"}},
		"lines of several forms":       {body: full("a") + "\n" + aks("kube-audit", quote(full("b"))) + "\nnode-1 " + full("c") + "\n[" + full("d") + "]\n", want: []string{"/a", "PROD-1/b", "/c", "/d"}},
		"mark":                         {body: "\xef\xbb\xbf" + full("a"), want: []string{"/a"}},
		"mark in the midst":            {body: full("a") + "\n\xef\xbb\xbf" + full("b"), want: []string{"/a", "/b"}},
		"event hubs":                   {body: `{"records":[` + aks("kube-audit", quote(full("a")+"\n")) + "," + aks("kube-audit-admin", full("b")) + "," + aks("kube-apiserver", `"I1121 10:00:00.000000 1 trace.go:205"`) + "," + aks("guard", `""`) + `]}`, want: []string{"PROD-1/a", "PROD-1/b"}, skipped: map[string]int{"category": 2}},
		"nothing but other categories": {body: `{"records":[` + aks("guard", `"x"`) + `]}`, skipped: map[string]int{"category": 1}},
		"record cut":                   {body: `{"records":[` + aks("kube-audit", quote(full("a")[:99])) + "," + aks("kube-audit", quote(full("b"))) + `]}`, want: []string{"PROD-1/b"}, rejects: []string{"truncated"}},
		"record of garbage":            {body: `{"records":[7,` + aks("kube-audit", quote("hello")) + "," + aks("kube-audit", "7") + `]}`, rejects: []string{"not_audit", "syntax", "not_audit"}},
		"records break off":            {body: `{"records":[` + aks("kube-audit", quote(full("a"))) + `,{"cat`, want: []string{"PROD-1/a"}, rejects: []string{"syntax"}},
		"azure diagnostics row":        {body: `{"Category":"kube-audit","_ResourceId":"/x/managedclusters/prod-1","log_s":` + quote(full("a")) + `}`, want: []string{"prod-1/a"}},
		"azure properties as text":     {body: `{"category":"kube-audit","resourceId":"/x/C","properties":` + quote(`{"log":`+quote(full("a"))+`}`) + `}`, want: []string{"C/a"}},
		"subscription":                 {body: cloudwatch(auditStream, full("a"), full("b")), want: []string{"blue/a", "blue/b"}},
		"lambda":                       {body: `{"awslogs":{"data":"` + b64(zip(cloudwatch(auditStream, full("a")))) + `"}}`, want: []string{"blue/a"}},
		"kinesis":                      {body: `{"Records":[{"kinesis":{"kinesisSchemaVersion":"1.0","data":"` + b64(zip(cloudwatch(auditStream, full("a")))) + `"},"eventSource":"aws:kinesis"}]}`, want: []string{"blue/a"}},
		"firehose":                     {body: `{"invocationId":"i","records":[{"recordId":"r","data":"` + b64(zip(cloudwatch(auditStream, full("a")))) + `"},{"recordId":"s","data":"` + b64(zip(control)) + `"}]}`, want: []string{"blue/a"}, skipped: map[string]int{"control": 1}},
		"firehose to S3":               {body: zip(cloudwatch(auditStream, full("a")), cloudwatch(auditStream, full("b"))), want: []string{"blue/a", "blue/b"}},
		"firehose to S3, unpacked":     {body: cloudwatch(auditStream, full("a")) + cloudwatch(auditStream, full("b")), want: []string{"blue/a", "blue/b"}},
		"other streams":                {body: cloudwatch("authenticator-01", "x", "y") + cloudwatch("kube-apiserver-0123", `{"a":1}`), skipped: map[string]int{"stream": 3}},
		"filter-log-events":            {body: `{"events":[{"logStreamName":"` + auditStream + `","timestamp":1,"message":` + quote(full("a")) + `,"eventId":"1"},{"logStreamName":"kube-scheduler-1","message":"x"}],"searchedLogStreams":[]}`, want: []string{"/a"}, skipped: map[string]int{"stream": 1}},
		"too long for cloudwatch":      {body: cloudwatch(auditStream, full("a")[:150]+"[Truncated...]", full("b")), want: []string{"blue/b"}, rejects: []string{"truncated"}},
		"no base64":                    {body: `{"awslogs":{"data":"%%%"}}`, rejects: []string{"envelope"}},
		"no gzip":                      {body: `{"awslogs":{"data":"` + b64("\x1f\x8b\x08garbage") + `"}}`, rejects: []string{"envelope"}},
		"gzip breaks off":              {body: zip(full("a") + "\n" + full("b"))[:120], rejects: []string{"envelope", "truncated"}},
		"data is no string":            {body: `{"awslogs":{"data":7}}`, rejects: []string{"envelope"}},
		"log entry":                    {body: gke("a"), want: []string{"blue/a"}},
		"gcloud logging read":          {body: "[" + gke("a") + "," + other + "]", want: []string{"blue/a"}, skipped: map[string]int{"service": 1}},
		"pub/sub push":                 {body: `{"message":{"attributes":{},"data":"` + b64(gke("a")) + `","messageId":"1"},"subscription":"projects/p/subscriptions/s"}`, want: []string{"blue/a"}},
		"pub/sub pull":                 {body: `{"receivedMessages":[{"ackId":"x","message":{"data":"` + b64(gke("a")) + `"}}]}`, want: []string{"blue/a"}},
		"text entry of gke":            {body: `{"insertId":"x","logName":"l","textPayload":"hello"}`, skipped: map[string]int{"service": 1}},
		"log entry without an id":      {body: strings.Replace(gke("a"), `"insertId":"a",`, "", 1), rejects: []string{"not_audit"}},
		"search response":              {body: `{"took":1,"hits":{"total":{"value":1},"hits":[` + hit(full("a")) + "," + hit(flat) + `]}}`, want: []string{"/a", "/a"}},
		"elastic agent":                {body: hit(`{"@timestamp":"2026-11-21T10:00:01Z","orchestrator":{"cluster":{"name":"prod"}},"kubernetes":{"audit":` + item("a") + `}}`), want: []string{"prod/a"}},
		"raw message":                  {body: hit(`{"@timestamp":"x","message":` + quote(full("a")) + `}`), want: []string{"/a"}},
		"json_target":                  {body: hit(`{"@timestamp":"x","kubernetes":{"node":{"name":"n"}},"k8saudit":` + full("a") + `}`), want: []string{"/a"}},
		"event.original":               {body: `{"event":{"original":` + quote(full("a")) + `}}`, want: []string{"/a"}},
		"fluent bit":                   {body: `{"log":` + quote(full("a")+"\n") + `,"stream":"stdout","kubernetes":{"pod_name":"kube-apiserver"}}`, want: []string{"/a"}},
		"fluent bit, merged":           {body: `{"log":` + quote(full("a")) + `,"log_processed":` + full("a") + `}`, want: []string{"/a"}},
		"distributed cloud":            {body: strings.Replace(full("a"), `"verb"`, `"_gdch_cluster":"org-1","_gdch_service_name":"apiserver","verb"`, 1), want: []string{"org-1/a"}},
		"oc adm node-logs":             {body: "master-0 " + full("a") + "\nmaster-1 " + full("b") + "\n", want: []string{"/a", "/b"}},
		"container runtime":            {body: "2026-11-21T10:00:00.0Z stdout F " + full("a"), want: []string{"/a"}},
		"torn line":                    {body: `x":"y","spec":` + full("a") + `}}`, rejects: []string{"syntax"}},
		"torn line without a quote":    {body: `1,2]} ` + full("a") + `}}`, rejects: []string{"syntax"}},
		"a string":                     {body: quote(full("a")), want: []string{"/a"}},
		"klog":                         {body: `{"message":"I1121 hello"}`, rejects: []string{"not_audit"}},
		"finding in a string":          {body: `{"message":` + quote(`{"kind":"Finding","auditID":"x","stage":"Panic"}`) + `}`, rejects: []string{"not_audit"}},
		"empty message":                {body: aks("kube-audit", `""`), rejects: []string{"not_audit"}},
		"garbage":                      {body: "\x00\xff", rejects: []string{"syntax"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := Any("", []byte(tt.body))
			var got, reasons []string
			for i := range r.Events {
				e := &r.Events[i]
				got = append(got, e.Cluster+"/"+e.AuditID)
				if e.User.Username != "alice" || e.Verb == "" {
					t.Errorf("%s", e.Raw)
				}
			}
			for _, x := range r.Rejects {
				reasons = append(reasons, Reason(x.Err))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.rejects, reasons); diff != "" {
				t.Errorf("rejects (-want +got):\n%s\n%v", diff, r.Rejects)
			}
			if !maps.Equal(tt.skipped, r.Skipped) {
				t.Errorf("skipped %v, want %v", r.Skipped, tt.skipped)
			}
			if (err != nil) != (len(got) == 0 && len(reasons) > 0) {
				t.Errorf("error %v", err)
			}
			named, _ := Any("mine", []byte(tt.body))
			for i := range named.Events {
				if named.Events[i].Cluster != "mine" {
					t.Errorf("cluster %q, although one was named", named.Events[i].Cluster)
				}
			}
		})
	}
}

// An event that was wrapped as a string is the one that was logged, byte for byte.
func TestAnyKeepsBytes(t *testing.T) {
	for _, body := range []string{full("a"), aks("kube-audit", quote(full("a"))), aks("kube-audit", full("a")), cloudwatch(auditStream, full("a")), "n " + full("a"), `{"log":` + quote(full("a")) + `}`} {
		r, err := Any("", []byte(body))
		if err != nil || string(r.Events[0].Raw) != full("a") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestRestored(t *testing.T) {
	tests := map[string]struct{ body, want string }{
		"fluentd": {
			`{"_source":{"auditID":"a","stage":"Panic","requestObject":"none","responseObject":"{\"kind\":\"Pod\"}","user":"{\"username\":\"u\"}","annotations":"none","host":"h"}}`,
			`{"auditID":"a","stage":"Panic","responseObject":{"kind":"Pod"},"user":{"username":"u"},"host":"h"}`,
		},
		"fluentd, cut body": {
			`{"_source":{"auditID":"a","stage":"Panic","requestObject":"{\"kind\":"}}`,
			`{"auditID":"a","stage":"Panic","requestObject":"{\"kind\":"}`,
		},
		"elastic agent": {
			`{"_source":{"@timestamp":"2026-11-21T10:00:01Z","kubernetes":{"audit":{"auditID":"a","stage":"Panic","annotations":{"authorization_k8s_io/decision":"allow","x":"y_z","mutation_webhook_admission_k8s_io/round_0_index_0":"{}"}}}}}`,
			`{"auditID":"a","stage":"Panic","annotations":{"authorization.k8s.io/decision":"allow","x":"y_z","mutation.webhook.admission.k8s.io/round_0_index_0":"{}"},"stageTimestamp":"2026-11-21T10:00:01Z"}`,
		},
		"dots made objects": {
			`{"kubernetes":{"audit":{"auditID":"a","stage":"Panic","stageTimestamp":"x","annotations":{"authorization":{"k8s":{"io/decision":"forbid"}}}}}}`,
			`{"auditID":"a","stage":"Panic","stageTimestamp":"x","annotations":{"authorization.k8s.io/decision":"forbid"}}`,
		},
		"a client's string stays": {
			`{"auditID":"a","stage":"Panic","requestObject":"{\"kind\":\"Pod\"}"}`,
			`{"auditID":"a","stage":"Panic","requestObject":"{\"kind\":\"Pod\"}"}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := Any("", []byte(tt.body))
			if err != nil || len(r.Events) != 1 {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(r.Events[0].Raw)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	bomb := zip(strings.Repeat(" ", maxUnpacked/2))
	body := `{"records":[{"data":"` + b64(bomb) + `"},{"data":"` + b64(bomb) + `"},{"data":"` + b64(bomb) + `"},{"data":"` + b64(zip(full("a"))) + `"}]}`
	r, err := Any("", []byte(body))
	if !errors.Is(r.Rejects[len(r.Rejects)-1].Err, ErrTooLarge) || len(r.Events) != 0 || err == nil {
		t.Errorf("bomb: %v %v", r.Rejects, err)
	}
	deep := full("a")
	for range maxNest + 3 {
		deep = `{"data":"` + b64(zip(deep)) + `"}`
	}
	if _, err := Any("", []byte(deep)); Reason(err) != ReasonEnvelope {
		t.Errorf("nested: %v", err)
	}
	objects := strings.Repeat(`{"hits":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	if _, err := Any("", []byte(objects)); err == nil {
		t.Error("deep objects")
	}
	many := "[" + strings.Repeat(`{"auditID":"a","stage":"s"},`, maxEvents+5) + `{"auditID":"a","stage":"s"}]`
	for name, decode := range map[string]Decode{"any": Any, "list": EventList} {
		r, err = decode("", []byte(many))
		if err != nil || len(r.Events) != maxEvents || len(r.Rejects) != 6 || Reason(r.Rejects[0].Err) != ReasonTooMany {
			t.Errorf("%s: %d events, %d rejects, %v", name, len(r.Events), len(r.Rejects), err)
		}
	}
}

// A plain line costs no more than without the other forms.
func TestPlain(t *testing.T) {
	line := []byte(full("a"))
	all := testing.AllocsPerRun(100, func() { _, _ = Any("c", line) })
	plain := testing.AllocsPerRun(100, func() { _, _ = Line("c", line) })
	if all > plain {
		t.Errorf("%v allocations, a plain line has %v", all, plain)
	}
	for s, want := range map[string]bool{
		full("a"): true, "": false, aks("kube-audit", quote(full("a"))): false, `{"auditID":"a","stage":"Panic","_gdch_cluster":"x"}`: false,
		`{"auditID":"a","stage":"Panic","@timestamp":"x","requestObject":"none"}`: false, full("a") + full("b"): false,
	} {
		if Plain([]byte(s)) != want {
			t.Errorf("%s", s)
		}
	}
}

// Recorded events come out of every wrapping as they went in.
func TestAnyRecorded(t *testing.T) {
	lines := recorded(t, "edge-1.36.log.zst")
	wrap := map[string]func(string) string{
		"aks":        func(s string) string { return `{"records":[` + aks("kube-audit", quote(s)) + `]}` },
		"cloudwatch": func(s string) string { return `{"awslogs":{"data":"` + b64(zip(cloudwatch(auditStream, s))) + `"}}` },
		"hit":        func(s string) string { return `{"hits":{"hits":[{"_source":` + s + `}]}}` },
	}
	for name, f := range wrap {
		for i, l := range lines {
			if len(l) > 1<<20 {
				continue
			}
			want, err := Line("c", l)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Any("c", []byte(f(string(l))))
			if err != nil || len(got.Events) != 1 || got.Events[0].Identity() != want.Events[0].Identity() {
				t.Fatalf("%s: line %d: %v", name, i+1, err)
			}
		}
	}
}

func FuzzAny(f *testing.F) {
	for _, s := range []string{
		full("a"), `{"records":[` + aks("kube-audit", quote(full("a"))) + `]}`, `{"awslogs":{"data":"` + b64(zip(cloudwatch(auditStream, full("a")))) + `"}}`, gke("a"),
		`{"hits":{"hits":[{"_source":{"kubernetes":{"audit":` + item("a") + `}}}]}}`, "node " + full("a"), `{"log":` + quote(full("a")) + `}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.Clone(b)
		r, err := Any("", b)
		if !bytes.Equal(in, b) {
			t.Fatal("the body was changed")
		}
		if (err != nil) != (len(r.Events) == 0 && err != nil) {
			t.Fatalf("%d events beside error %v", len(r.Events), err)
		}
		for i := range r.Events {
			e, err := audit.Parse(r.Events[i].Cluster, r.Events[i].Raw)
			if err != nil || e.Kind == audit.KindFinding || e.AuditID != r.Events[i].AuditID {
				t.Fatalf("%s: %v", r.Events[i].Raw, err)
			}
		}
		for _, x := range r.Rejects {
			if x.Err == nil {
				t.Fatal("a reject without a reason")
			}
		}
	})
}
