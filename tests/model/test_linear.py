"""Products by way of oneDNN are those of ``nn.Linear``, forwards and backwards."""

import pytest
import torch
import torch.nn.functional as F

from model import linear as module
from model.linear import Linear, linear

fast = pytest.mark.skipif(not module._onednn_is_there(), reason="oneDNN is not the faster one here")


def gradients(function, x, weight, bias, grad):
    leaves = [value.clone().requires_grad_() for value in (x, weight, bias)]
    output = function(*leaves)
    output.backward(grad)
    return [output.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [((7, 17), 96, 160), ((50,), 160, 96), ((1, 1), 3, 5)]
)
def test_output_and_gradients(monkeypatch, rows, inputs, outputs):
    """Of large and small products; the wider side decides which way the weight's gradient is taken."""
    monkeypatch.setattr(module, "ONEDNN_FROM", 100)
    x, grad = torch.randn(*rows, inputs), torch.randn(*rows, outputs)
    weight, bias = torch.randn(outputs, inputs), torch.randn(outputs)
    found = gradients(linear, x, weight, bias, grad)
    expected = gradients(F.linear, x, weight, bias, grad)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(linear(x, weight, bias), found[0])


@fast
def test_a_weight_that_is_a_view(monkeypatch):
    """As the graph convolution's transposed weights are, without a bias."""
    monkeypatch.setattr(module, "ONEDNN_FROM", 0)
    x, weight = torch.randn(20, 30), torch.randn(30, 40, requires_grad=True)
    output = linear(x, weight.t())
    torch.testing.assert_close(output, x @ weight)
    output.sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0)[:, None].expand(30, 40))


@fast
def test_only_the_gradients_that_are_wanted(monkeypatch):
    monkeypatch.setattr(module, "ONEDNN_FROM", 0)
    x, weight, bias = torch.randn(20, 30), torch.randn(40, 30, requires_grad=True), torch.randn(40)
    products = []
    product = module._product
    monkeypatch.setattr(module, "_product", lambda *args: products.append(1) or product(*args))
    linear(x, weight, bias).sum().backward()
    assert len(products) == 2 and x.grad is None and bias.grad is None and weight.grad is not None


@fast
def test_which_products_go_to_onednn(monkeypatch):
    used = []
    product = module._product
    monkeypatch.setattr(module, "_product", lambda *args: used.append(1) or product(*args))
    large, small = torch.randn(300, 100), torch.randn(3, 100)
    layer = Linear(100, 100)
    layer(large)
    assert used == [1]
    layer(small)
    layer.double()(large.double())
    layer.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(large).dtype == torch.bfloat16
    assert used == [1]


def test_an_older_pytorch_without_the_function(monkeypatch):
    monkeypatch.setattr(module, "_onednn_is_there", lambda: False)
    monkeypatch.setattr(module, "_product", None)
    assert Linear(100, 100)(torch.randn(300, 100)).shape == (300, 100)


@fast
def test_where_onednn_is_switched_off_or_torch_func_is_at_work(monkeypatch):
    monkeypatch.setattr(module, "ONEDNN_FROM", 0)
    used, product = [], module._product
    monkeypatch.setattr(module, "_product", lambda *args: used.append(1) or product(*args))
    x, weight = torch.randn(20, 30), torch.randn(40, 30)
    with torch.backends.mkldnn.flags(enabled=False):
        linear(x, weight)
    gradient = torch.func.grad(lambda value: linear(x, value).sum())(weight)
    torch.testing.assert_close(gradient, x.sum(0).expand(40, 30))
    assert not used
    linear(x, weight)
    assert used
