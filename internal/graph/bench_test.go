package graph_test

import (
	"testing"

	"nacre/internal/dockerfile"
	"nacre/internal/graph"
)

// BenchmarkPlan is what every build pays before its first step.
func BenchmarkPlan(b *testing.B) {
	const text = "FROM a AS b\nARG V=1\nWORKDIR /app\nCOPY . .\nRUN go build -o x\nFROM c\nENV A=b\nCOPY --from=b /app/x .\nEXPOSE 80\nCMD [\"x\"]\n"
	m := images{"a": {}, "c": {}}
	for b.Loop() {
		f, err := dockerfile.Parse("Dockerfile", []byte(text))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := graph.Plan(b.Context(), f, graph.Options{}, m.resolve); err != nil {
			b.Fatal(err)
		}
	}
}
