package envelope

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
)

// cloudWatch opens what CloudWatch Logs makes of a log group: subscription data, itself or for Lambda, Kinesis and Firehose, and what
// FilterLogEvents answers (docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html). EKS writes the audit log to streams
// kube-apiserver-audit-<hex> of the group /aws/eks/<cluster>/cluster, beside the other logs of its control plane.
func (d *decoder) cloudWatch(cluster string, f fields) bool {
	switch {
	case f.is("awslogs", '{'):
		inner, _ := read(f["awslogs"])
		d.base64(cluster, f["awslogs"], inner["data"])
	case f.is("logEvents", '['):
		if f.text("messageType") == "CONTROL_MESSAGE" {
			d.skip(SkipControl, 1)
			return true
		}
		group := f.text("logGroup")
		cluster = named(cluster, eksCluster(group))
		if otherStream(f.text("logStream"), group) {
			d.skip(SkipStream, elements(f["logEvents"]))
			return true
		}
		d.elements(cluster, f["logEvents"])
	case f.is("events", '['):
		d.elements(cluster, f["events"])
	case f["logStreamName"] != nil && otherStream(f.text("logStreamName"), ""):
		d.skip(SkipStream, 1)
	default:
		return false
	}
	return true
}

// eksCluster is the cluster in the name of its log group, "" where there is none.
func eksCluster(group string) string {
	name, ok := strings.CutPrefix(group, "/aws/eks/")
	if name, found := strings.CutSuffix(name, "/cluster"); ok && found {
		return name
	}
	return ""
}

const eksAudit = "kube-apiserver-audit-"

// otherStream reports whether a stream is one of EKS's that has no audit events. Of other groups nothing is known.
func otherStream(stream, group string) bool {
	if stream == "" || strings.HasPrefix(stream, eksAudit) {
		return false
	}
	if eksCluster(group) != "" {
		return true
	}
	for _, p := range []string{"authenticator-", "kube-apiserver-", "kube-controller-manager-", "kube-scheduler-", "cloud-controller-manager-"} {
		if strings.HasPrefix(stream, p) {
			return true
		}
	}
	return false
}

// elements counts those of an array.
func elements(list []byte) int {
	n := 0
	for i := space(list, 1); i < len(list) && list[i] != ']'; n++ {
		end := valueEnd(list, i)
		if end < 0 {
			break
		}
		if i = space(list, end); i < len(list) && list[i] == ',' {
			i = space(list, i+1)
		}
	}
	return n
}

// base64 decodes a string of base64, which may hold gzip, as a body of its own. of is where it stood.
func (d *decoder) base64(cluster string, of, v []byte) {
	if len(v) < 2 || v[0] != '"' {
		_ = d.bad(of, fmt.Errorf("%w: data is no string", ErrEnvelope))
		return
	}
	in := v[1 : len(v)-1]
	if i := space(in, 0); i < len(in) && in[i] == '{' {
		d.text(cluster, v)
		return
	}
	if bytes.IndexByte(in, '\\') >= 0 { // "\/" and "\u003d" are other ways to write what base64 has
		in = []byte(fields{"v": v}.text("v"))
	}
	in = bytes.TrimRight(in, "=\r\n ")
	enc := base64.RawStdEncoding
	if bytes.ContainsAny(in, "-_") {
		enc = base64.RawURLEncoding
	}
	out := make([]byte, enc.DecodedLen(len(in)))
	n, err := enc.Decode(out, in)
	if err != nil {
		_ = d.bad(of, fmt.Errorf("%w: data is no base64: %w", ErrEnvelope, err))
		return
	}
	if out = out[:n]; packed(out) {
		d.unpack(cluster, out)
		return
	}
	d.whole(cluster, out)
}

// whole decodes what an envelope held.
func (d *decoder) whole(cluster string, b []byte) {
	if d.depth >= maxNest {
		_ = d.bad(b, fmt.Errorf("%w: nested deeper than %d", ErrEnvelope, maxNest))
		return
	}
	d.depth++
	if err := d.body(cluster, b); errors.Is(err, errEmpty) {
		_ = d.bad(b, err)
	}
	d.depth--
}

// packed reports whether b is gzip (RFC 1952 section 2.3.1); no text begins like that.
func packed(b []byte) bool { return len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b }

// unpack decompresses gzip, one member after the other as Firehose writes them, within what a body may have in all.
func (d *decoder) unpack(cluster string, b []byte) {
	left := maxUnpacked - d.unpacked
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		_ = d.bad(b, fmt.Errorf("%w: %w", ErrEnvelope, early(err)))
		return
	}
	out, err := io.ReadAll(io.LimitReader(z, int64(left)+1))
	d.unpacked += len(out)
	if len(out) > left {
		_ = d.bad(b, fmt.Errorf("%w: it unpacks to more than %d bytes", ErrTooLarge, maxUnpacked))
		return
	}
	if err != nil {
		_ = d.bad(b, fmt.Errorf("%w: %w", ErrEnvelope, early(err)))
	}
	if len(out) > 0 {
		d.whole(cluster, out) // of a stream that breaks off, what is there
	}
}

func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
