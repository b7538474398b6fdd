package envelope

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// flat is an event as Fluentd stores it: bodies are texts, and the collector's fields stand among the event's.
func flat(id string) string {
	return strings.Replace(full(id), `"verb"`, `"origin":"kubernetes-api-audit","host":"h","requestObject":"none","responseObject":"{\"kind\":\"PodList\"}",`+
		`"annotations":{"authorization_k8s_io/decision":"allow"},"verb"`, 1)
}

// What is rarer than TestAny's forms, or damaged.
func TestAnyForms(t *testing.T) {
	tests := map[string]struct {
		body    string
		want    string // members of what came out: cluster/auditID verb decision responseObject
		rejects []string
		skipped map[string]int
	}{
		"collector's fields at the top": {body: flat("a"), want: `/a list allow {"kind":"PodList"}`},
		"a client's text":               {body: strings.Replace(full("a"), `"verb"`, `"responseObject":"{}","verb"`, 1), want: `/a list  "{}"`},
		"moved out by elastic": {
			body: `{"_source":{"@timestamp":"2026-11-21T10:00:01Z","orchestrator":{"cluster":{"name":"c"}},"user":{"name":"alice"},"source":{"ip":"192.0.2.1"},"user_agent":{"original":"kubectl"},` +
				`"event":{"action":"get"},"kubernetes":{"audit":{"auditID":"a","stage":"ResponseComplete","responseObject":{"x":{}}}}}}`,
			want: `c/a get  {"x":{}}`,
		},
		"table row": {
			body: `{"TimeGenerated":"2026-11-21T10:00:01Z","Type":"AKSAudit","AuditId":"a","Stage":"ResponseComplete","Verb":"get","User":"{\"username\":\"alice\"}",` +
				`"Annotations":{"authorization.k8s.io/decision":"allow"},"StageReceivedTime":"2026-11-21T10:00:01Z","_ResourceId":"/x/managedclusters/c1"}`,
			want: `c1/a get allow `,
		},
		"cluster of odd name":    {body: strings.Replace(aks("kube-audit", quote(full("a"))), "PROD-1", `P\n<b>`, 1), want: `/a list  `},
		"records break off":      {body: `{"records":[` + aks("kube-audit", quote(full("a"))) + "," + aks("kube-audit", quote(full("b")))[:200], want: `PROD-1/a list  `, rejects: []string{"syntax"}},
		"hits break off":         {body: `{"took":1,"hits":{"total":2,"hits":[{"_source":` + full("a") + `},{"_source":{"au`, want: `/a list  `, rejects: []string{"syntax"}},
		"logEvents break off":    {body: cloudwatch(auditStream, full("a"), full("b"))[:600], want: `blue/a list  `, rejects: []string{"syntax"}},
		"array breaks off":       {body: "[" + aks("kube-audit", quote(full("a"))) + `,{"ca`, want: `PROD-1/a list  `, rejects: []string{"syntax"}},
		"kinesis, get-records":   {body: `{"Records":[{"SequenceNumber":"1","Data":"` + b64(zip(cloudwatch(auditStream, full("a")))) + `","PartitionKey":"1"}]}`, want: `blue/a list  `},
		"array of texts":         {body: "[" + quote(full("a")) + "," + quote(full("b")) + `,"x"]`, want: "/a list  \n/b list  ", rejects: []string{"syntax"}},
		"lines of an array":      {body: full("a") + ",\n" + full("b") + ",\n" + full("c"), want: "/a list  \n/b list  \n/c list  "},
		"event in a log entry":   {body: `{"insertId":"i","logName":"projects/p/logs/x","jsonPayload":` + full("a") + `}`, want: `/a list  `},
		"text in a log entry":    {body: `{"insertId":"i","logName":"projects/p/logs/x","textPayload":"hello"}`, skipped: map[string]int{"service": 1}},
		"target without kind":    {body: `{"@timestamp":"x","audit":` + item("a") + `}`, want: `/a get  `},
		"body of a refused one":  {body: strings.Replace(full("x"), `"auditID":"x","stage":"ResponseComplete"`, `"stage":"","requestObject":`+full("forged"), 1), rejects: []string{"not_audit"}},
		"body of an unnamed one": {body: `{"auditID":"","stage":"Panic","requestObject":` + full("forged") + `}`, rejects: []string{"not_audit"}},
		"body of a torn one":     {body: `{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"x","requestObject":` + full("forged"), rejects: []string{"syntax"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r, _ := Any("", []byte(tt.body))
			var got, reasons []string
			for i := range r.Events {
				e := &r.Events[i]
				got = append(got, e.Cluster+"/"+e.AuditID+" "+e.Verb+" "+e.Decision+" "+string(e.ResponseObject))
				if e.User.Username != "alice" {
					t.Errorf("%s", e.Raw)
				}
			}
			for _, x := range r.Rejects {
				reasons = append(reasons, Reason(x.Err))
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.rejects, reasons); diff != "" {
				t.Errorf("rejects (-want +got):\n%s\n%v", diff, r.Rejects)
			}
			if !maps.Equal(tt.skipped, r.Skipped) {
				t.Errorf("skipped %v, want %v", r.Skipped, tt.skipped)
			}
		})
	}
}

func BenchmarkAny(b *testing.B) {
	lines := recorded(b, "apiserver-1.36.log.zst")[:400]
	var records, messages, hits []string
	for _, l := range lines {
		records = append(records, aks("kube-audit", quote(string(l))))
		messages = append(messages, string(l))
		hits = append(hits, `{"_source":`+string(l)+`}`)
	}
	for _, form := range []struct{ name, body string }{
		{"plain", messages[0]},
		{"aks", `{"records":[` + strings.Join(records, ",") + `]}`},
		{"cloudwatch", cloudwatch(auditStream, messages...)},
		{"hits", `{"hits":{"hits":[` + strings.Join(hits, ",") + `]}}`},
		{"gke", gke("a")},
	} {
		b.Run(form.name, func(b *testing.B) {
			body := []byte(form.body)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if r, err := Any("c", body); err != nil || len(r.Events) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}

// However forms are put into one another, the event comes out as it went in.
func TestAnyNested(t *testing.T) {
	forms := []struct {
		name string
		wrap func(string) string // of one JSON value into one
	}{
		{"aks", func(s string) string { return aks("kube-audit", quote(s)) }},
		{"records", func(s string) string { return `{"records":[` + s + `]}` }},
		{"cloudwatch", func(s string) string { return cloudwatch(auditStream, s) }},
		{"lambda", func(s string) string { return `{"awslogs":{"data":"` + b64(zip(s)) + `"}}` }},
		{"kinesis", func(s string) string { return `{"Records":[{"kinesis":{"data":"` + b64(s) + `"}}]}` }},
		{"firehose", func(s string) string { return `{"records":[{"data":"` + b64(zip(s)) + `"}]}` }},
		{"pubsub", func(s string) string { return `{"message":{"data":"` + b64(s) + `"},"subscription":"s"}` }},
		{"hits", func(s string) string {
			return `{"hits":{"total":1,"hits":[{"_id":"1","_source":{"message":` + quote(s) + `}}]}}`
		}},
		{"log", func(s string) string { return `{"log":` + quote(s+"\n") + `,"stream":"stdout"}` }},
		{"text", quote},
		{"array", func(s string) string { return " [ " + s + " ]\n" }},
	}
	rapid.Check(t, func(t *rapid.T) {
		body, path := full("a"), ""
		for range rapid.IntRange(0, 3).Draw(t, "depth") {
			f := rapid.SampledFrom(forms).Draw(t, "form")
			body, path = f.wrap(body), path+" "+f.name
		}
		if rapid.Bool().Draw(t, "packed") {
			body = zip(body, "\n", body)
		} else {
			body += "\n" + body
		}
		r, err := Any("c", []byte(body))
		if err != nil || len(r.Events) != 2 || len(r.Rejects) != 0 || r.Skipped != nil {
			t.Fatalf("%s: %v %v", path, err, r)
		}
		for i := range r.Events {
			if string(r.Events[i].Raw) != full("a") || r.Events[i].Cluster != "c" {
				t.Fatalf("%s: %s", path, r.Events[i].Raw)
			}
		}
	})
}

// A body that is cut anywhere gives whole events or none, and no panic.
func TestAnyCut(t *testing.T) {
	for name, body := range map[string]string{
		"aks": `{"records":[` + aks("kube-audit", quote(full("a"))) + "," + aks("kube-audit", full("b")) + `]}`, "cloudwatch": cloudwatch(auditStream, full("a"), full("b")),
		"hits": `{"hits":{"hits":[{"_source":` + flat("a") + `},{"_source":{"kubernetes":{"audit":` + full("b") + `}}}]}}`, "gke": "[" + gke("a") + "," + gke("b") + "]",
		"lambda": `{"awslogs":{"data":"` + b64(zip(cloudwatch(auditStream, full("a")))) + `"}}`, "packed": zip(full("a"), full("b")), "list": `{"kind":"EventList","items":[` + full("a") + "," + full("b") + `]}`,
	} {
		most := 0
		for n := range len(body) + 1 {
			r, err := Any("", []byte(body[:n]))
			for i := range r.Events {
				if id := r.Events[i].AuditID; id != "a" && id != "b" || r.Events[i].User.Username != "alice" {
					t.Fatalf("%s, %d bytes: %s", name, n, r.Events[i].Raw)
				}
			}
			if len(r.Events) < most || len(r.Events) == 0 && err == nil {
				t.Fatalf("%s, %d bytes: %d events after %d, %v", name, n, len(r.Events), most, err)
			}
			most = len(r.Events)
		}
	}
}
