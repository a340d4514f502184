// SPDX-License-Identifier: Apache-2.0
#include "turboquant/engine/linear_algebra.h"

// One thread runtime per process: callers share out the work (base/thread_pool.h).
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <cmath>

namespace tq {
namespace {

template <typename T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ConstRows = Eigen::Map<const Matrix<float>, 0, Eigen::OuterStride<>>;
using Rows = Eigen::Map<Matrix<float>, 0, Eigen::OuterStride<>>;

ConstRows Wrap(MatrixView<const float> m) {
  return {m.data, m.rows, m.cols, Eigen::OuterStride<>(m.stride)};
}
Rows Wrap(MatrixView<float> m) { return {m.data, m.rows, m.cols, Eigen::OuterStride<>(m.stride)}; }
Eigen::Map<const Matrix<double>> Square(std::span<const double> m, int head_dim) {
  return {m.data(), head_dim, head_dim};
}

std::vector<float> ToFloats(const Matrix<double>& m) {
  const Matrix<float> floats = m.cast<float>();
  return {floats.data(), floats.data() + floats.size()};
}

}  // namespace

void AddMoment(MatrixView<const float> x, const float* mean, std::span<double> moment) {
  Matrix<double> rows = Wrap(x).cast<double>();
  if (mean != nullptr) {
    rows.rowwise() -= Eigen::Map<const Eigen::RowVectorXf>(mean, static_cast<Eigen::Index>(x.cols))
                          .cast<double>();
  }
  Eigen::Map<Matrix<double>>(moment.data(), x.cols, x.cols).noalias() += rows.transpose() * rows;
}

void MultiplyTransposed(MatrixView<const float> a, MatrixView<const float> b,
                        MatrixView<float> out) {
  Wrap(out).noalias() = Wrap(a) * Wrap(b).transpose();
}
void Multiply(MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> out) {
  Wrap(out).noalias() = Wrap(a) * Wrap(b);
}

std::optional<BalancedMap> SolveBalancedMap(std::span<const double> keys,
                                            std::span<const double> queries, int head_dim,
                                            double shrinkage) {
  Matrix<double> k = Square(keys, head_dim), q = Square(queries, head_dim);
  if (!(k.trace() > 0 && q.trace() > 0 && k.allFinite() && q.allFinite())) return std::nullopt;
  k.diagonal().array() += shrinkage * k.trace() / head_dim;
  q.diagonal().array() += shrinkage * q.trace() / head_dim;
  const Eigen::LLT<Matrix<double>> cholesky(k);
  if (cholesky.info() != Eigen::Success) return std::nullopt;
  const Matrix<double> l = cholesky.matrixL();
  const Eigen::SelfAdjointEigenSolver<Matrix<double>> eigen(l.transpose() * q * l);
  if (eigen.info() != Eigen::Success || !(eigen.eigenvalues()[0] > 0)) return std::nullopt;
  const Eigen::VectorXd roots = eigen.eigenvalues().array().pow(0.25);
  const Matrix<double> turned = eigen.eigenvectors().transpose();
  // A = diag(l^1/4) U^T L^-1, A^-T = diag(l^-1/4) U^T L^T.
  const Matrix<double> forward =
      roots.asDiagonal() * cholesky.matrixL().solve<Eigen::OnTheRight>(turned);
  const Matrix<double> inverse_transpose =
      roots.cwiseInverse().asDiagonal() * (turned * l.transpose());
  if (!forward.allFinite() || !inverse_transpose.allFinite()) return std::nullopt;
  return BalancedMap{ToFloats(forward), ToFloats(inverse_transpose)};
}

double EnergyAfter(std::span<const float> a, std::span<const double> moment, int head_dim) {
  const auto m = Square(moment, head_dim);
  if (a.empty()) return m.trace();
  const Matrix<double> map =
      Eigen::Map<const Matrix<float>>(a.data(), head_dim, head_dim).cast<double>();
  return (map * m).cwiseProduct(map).sum();
}

}  // namespace tq
