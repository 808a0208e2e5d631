"""The estimator conventions of scikit-learn."""

import pickle

import numpy as np
import pytest
import sklearn.base
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted
from sparse_coding_cases import noise_images, small_net

from convop.deconvnet import DeconvLayer, DeconvNet


def test_clone_copies_parameters_and_not_filters():
    net = small_net(connectivity=np.ones((1, 3), bool))
    assert net.get_params() == {"layers": net.layers, "rng": 3}
    copy = sklearn.base.clone(net)
    assert copy is not net
    assert copy.layers[0] is not net.layers[0]
    assert copy.layers[0].get_params().keys() == net.layers[0].get_params().keys()
    assert not hasattr(sklearn.base.clone(small_net().fit(noise_images(1))), "filters_")


def test_repr_omits_defaults():
    assert repr(DeconvNet([DeconvLayer(3, 5, p=1.0)], rng=1)) == "DeconvNet([DeconvLayer(3, 5, p=1.0)], rng=1)"
    assert repr(sklearn.base.clone(DeconvLayer(2, 3, lam=4.0))) == "DeconvLayer(2, 3, lam=4.0)"


def test_set_params_rejects_unknown_names():
    layer = DeconvLayer(3, 5)
    assert layer.set_params(lam=3.0, p=1.0) is layer
    assert (layer.lam, layer.p) == (3.0, 1.0)
    with pytest.raises(ValueError, match="DeconvLayer has no parameter 'size'"):
        layer.set_params(size=3)


def test_fitted_network_is_picklable():
    fitted = small_net().fit(noise_images(1))
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.infer(noise_images(1))[0], fitted.infer(noise_images(1))[0])


def test_scikit_learn_recognises_fitted_network():
    net = small_net()
    with pytest.raises(NotFittedError):
        check_is_fitted(net)
    check_is_fitted(net.fit(noise_images(1)))
    assert not get_tags(net).target_tags.required
