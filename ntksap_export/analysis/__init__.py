"""What a mask does to a network before it is trained: its tangent kernel, its Jacobian, its structure."""
