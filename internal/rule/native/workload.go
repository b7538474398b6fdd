package native

import (
	"path"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// podSpecs finds the pod specifications in an object, whole or partial: of a pod, of a workload's template, of a cron job.
func podSpecs(v ref.Val) ref.Val {
	var out []ref.Val
	spec := member(v, "spec")
	for _, s := range []ref.Val{spec, member(spec, "template", "spec"), member(spec, "jobTemplate", "spec", "template", "spec"), member(v, "template", "spec")} {
		if _, ok := s.(traits.Mapper); ok {
			out = append(out, s)
		}
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out)
}

// containers gives the containers of every kind in every pod specification of an object.
func containers(v ref.Val) ref.Val {
	var out []ref.Val
	for it := podSpecs(v).(traits.Lister).Iterator(); it.HasNext() == types.True; {
		spec := it.Next()
		for _, kind := range []string{"containers", "initContainers", "ephemeralContainers"} {
			l, ok := member(spec, kind).(traits.Lister)
			if !ok {
				continue
			}
			for c := l.Iterator(); c.HasNext() == types.True; {
				out = append(out, c.Next())
			}
		}
	}
	return types.NewRefValList(types.DefaultTypeAdapter, out)
}

// member walks into maps; nil where there is nothing.
func member(v ref.Val, names ...string) ref.Val {
	for _, n := range names {
		m, ok := v.(traits.Mapper)
		if !ok {
			return nil
		}
		if v, ok = m.Find(types.String(n)); !ok {
			return nil
		}
	}
	return v
}

// images gives the distinct images of an object's containers, in order.
func images(v ref.Val) []string {
	var out []string
	seen := map[string]bool{}
	for it := containers(v).(traits.Lister).Iterator(); it.HasNext() == types.True; {
		if s, ok := member(it.Next(), "image").(types.String); ok && s != "" && !seen[string(s)] {
			seen[string(s)] = true
			out = append(out, string(s))
		}
	}
	return out
}

// hostPaths gives the distinct paths of the hostPath volumes of an object's pods, cleaned, in order.
func hostPaths(v ref.Val) ref.Val {
	var out []string
	for it := podSpecs(v).(traits.Lister).Iterator(); it.HasNext() == types.True; {
		l, ok := member(it.Next(), "volumes").(traits.Lister)
		if !ok {
			continue
		}
		for vols := l.Iterator(); vols.HasNext() == types.True; {
			if s, ok := member(vols.Next(), "hostPath", "path").(types.String); ok {
				out = append(out, path.Clean(string(s)))
			}
		}
	}
	slices.Sort(out)
	return texts(slices.Compact(out))
}

// splitImage parts an image's name into registry and path, without tag and digest, as Docker and containerd read it
// (github.com/distribution/reference): what stands before the first slash is a registry if it has a dot or a colon, or is localhost;
// without one it is docker.io, and there a path of one part is below library.
func splitImage(image string) (registry, repository string) {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	if image == "" {
		return "", ""
	}
	first, rest, ok := strings.Cut(image, "/")
	switch {
	case ok && (strings.ContainsAny(first, ".:") || first == "localhost"):
		if registry = strings.ToLower(first); registry == "index.docker.io" {
			registry = "docker.io"
		}
		image = rest
	default:
		registry = "docker.io"
	}
	if registry == "docker.io" && !strings.Contains(image, "/") {
		image = "library/" + image
	}
	return registry, image
}
